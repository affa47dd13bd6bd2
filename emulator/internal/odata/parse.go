package odata

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxDepth is the service's limit for the nesting of parentheses, function calls, nots, and comparisons of comparisons. A chain
// of ands or ors of any length counts as one level.
const maxDepth = 100

// binary maps the comparison operators to their operations.
var binary = map[string]op{"eq": opEq, "ne": opNe, "gt": opGt, "ge": opGe, "lt": opLt, "le": opLe, "in": opIn}

// Parse parses a filter. It returns an [*Error] if the filter is not a valid bool expression. An empty filter is an error: the
// caller must handle a request without a filter, which selects every connection.
func Parse(filter string) (*Expr, error) {
	p := &parser{filter: filter}
	root, err := p.parse()
	if err != nil {
		return nil, err
	}
	if err := check(root, filter); err != nil {
		return nil, err
	}
	return &Expr{root: root}, nil
}

// parser is a recursive descent parser with one token of lookahead. It checks the syntax; checker checks the types.
type parser struct {
	filter string
	off    int // the byte after tok
	tok    token
	last   int // the byte after the token before tok
	depth  int
}

type tokenKind uint8

const (
	tokenEnd    tokenKind = iota
	tokenName             // an operator, function, variable or keyword
	tokenString           // text is the value, without quotes
	tokenInt              // num is the value
	tokenPunct            // ( ) ,
)

type token struct {
	kind tokenKind
	pos  int
	text string
	num  int32
}

func (p *parser) parse() (*node, error) {
	if err := p.next(); err != nil {
		return nil, err
	}
	root, err := p.or()
	if err != nil {
		return nil, err
	}
	if p.tok.kind != tokenEnd {
		return nil, p.syntax(p.off, "Syntax error", p.hint())
	}
	return root, nil
}

// syntax returns a syntax error at a position. Details and positions follow Microsoft's OData library, which the service uses:
// the position in the recorded "Syntax error at position 14 in 'invalid filter'." is the one after the last token.
func (p *parser) syntax(pos int, detail, hint string) error {
	return &Error{Part: p.filter, Hint: hint,
		Detail: detail + " at position " + strconv.Itoa(units(p.filter[:pos])) + " in '" + p.filter + "'."}
}

// hint suggests the correct spelling of a name that is invalid only because of its case.
func (p *parser) hint() string {
	if lower := strings.ToLower(p.tok.text); p.tok.kind == tokenName && lower != p.tok.text && isWord(lower) {
		return "write " + lower + " in lower case"
	}
	return ""
}

// next reads the next token into p.tok.
func (p *parser) next() error {
	p.last = p.off
	for p.off < len(p.filter) && isSpace(p.filter[p.off]) {
		p.off++
	}
	pos := p.off
	p.tok = token{kind: tokenEnd, pos: pos}
	if pos == len(p.filter) {
		return nil
	}
	switch c := p.filter[pos]; {
	case c == '(' || c == ')' || c == ',':
		p.off++
		p.tok.kind, p.tok.text = tokenPunct, p.filter[pos:p.off]
	case c == '\'':
		return p.nextString()
	case c == '-' || isDigit(c):
		return p.nextInt()
	case isLetter(c):
		p.skipWord()
		p.tok.kind, p.tok.text = tokenName, p.filter[pos:p.off]
	default:
		r, _ := utf8.DecodeRuneInString(p.filter[pos:])
		hint := ""
		if r == '"' {
			hint = "write strings in single quotes"
		}
		return p.syntax(pos, "Syntax error: character '"+string(r)+"' is not valid", hint)
	}
	return nil
}

// nextString reads a string literal. Two quotes in it stand for one.
func (p *parser) nextString() error {
	pos := p.off
	for rest := pos + 1; ; {
		end := strings.IndexByte(p.filter[rest:], '\'')
		if end < 0 {
			return p.syntax(len(p.filter), "There is an unterminated string literal", "write a quote in a string twice")
		}
		rest += end + 1
		if rest == len(p.filter) || p.filter[rest] != '\'' {
			p.off = rest
			p.tok.kind, p.tok.text = tokenString, strings.ReplaceAll(p.filter[pos+1:rest-1], "''", "'")
			return nil
		}
		rest++
	}
}

func (p *parser) nextInt() error {
	pos := p.off
	p.off++
	p.skipWord()
	text := p.filter[pos:p.off]
	num, err := strconv.ParseInt(text, 10, 32)
	switch {
	case err == nil && p.off < len(p.filter) && p.filter[p.off] == '.', err != nil && text != "-":
		return p.syntax(pos, "Syntax error", "numbers must be whole and fit in 32 bits")
	case err != nil:
		return p.syntax(p.off, "A digit was expected", "")
	}
	p.tok.kind, p.tok.text, p.tok.num = tokenInt, text, int32(num)
	return nil
}

func (p *parser) skipWord() {
	for p.off < len(p.filter) && (isLetter(p.filter[p.off]) || isDigit(p.filter[p.off])) {
		p.off++
	}
}

func isSpace(c byte) bool { return c == ' ' || '\t' <= c && c <= '\r' }

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func isLetter(c byte) bool { return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c == '_' }

func (p *parser) isPunct(text string) bool { return p.tok.kind == tokenPunct && p.tok.text == text }
func (p *parser) isName(text string) bool  { return p.tok.kind == tokenName && p.tok.text == text }

// enter increases the nesting depth. It returns an error at the limit; otherwise the caller must call leave.
func (p *parser) enter() error {
	if p.depth == maxDepth {
		return &Error{Part: p.filter, Detail: "The filter is nested more than 100 levels deep."}
	}
	p.depth++
	return nil
}

func (p *parser) leave() { p.depth-- }

func (p *parser) or() (*node, error) { return p.chain("or", opOr, p.and) }

func (p *parser) and() (*node, error) { return p.chain("and", opAnd, p.comparison) }

// chain parses one or more operands of the same logical operator into one node.
func (p *parser) chain(name string, op op, operand func() (*node, error)) (*node, error) {
	first, err := operand()
	if err != nil || !p.isName(name) {
		return first, err
	}
	n := &node{op: op, start: first.start, args: []*node{first}}
	for p.isName(name) {
		if err := p.next(); err != nil {
			return nil, err
		}
		arg, err := operand()
		if err != nil {
			return nil, err
		}
		n.args = append(n.args, arg)
	}
	n.end = p.last
	return n, nil
}

func (p *parser) comparison() (*node, error) {
	left, err := p.unary()
	if err != nil {
		return nil, err
	}
	outer := p.depth
	defer func() { p.depth = outer }()
	for links := 0; p.tok.kind == tokenName; links++ {
		op, ok := binary[p.tok.text]
		if !ok {
			break
		}
		if links > 0 { // a comparison of a comparison is a nested level
			if err := p.enter(); err != nil {
				return nil, err
			}
		}
		if err := p.next(); err != nil {
			return nil, err
		}
		n := &node{op: op, start: left.start, args: []*node{left}}
		if op == opIn && p.isPunct("(") {
			err = p.list(n)
		} else {
			var right *node
			right, err = p.unary()
			n.args = append(n.args, right)
		}
		if err != nil {
			return nil, err
		}
		n.end = p.last
		left = n
	}
	return left, nil
}

// list parses the list on the right of in: any number of literals in parentheses. The service's documentation allows nothing
// else in a list.
func (p *parser) list(n *node) error {
	n.op = opInList
	if err := p.next(); err != nil {
		return err
	}
	for !p.isPunct(")") {
		if len(n.args) > 1 {
			if !p.isPunct(",") {
				return p.syntax(p.tok.pos, "')' or ',' expected", "")
			}
			if err := p.next(); err != nil {
				return err
			}
		}
		item := p.literal()
		if item == nil {
			return p.syntax(p.tok.pos, "Expression expected", "a list may hold strings, whole numbers, true, false and null")
		}
		n.args = append(n.args, item)
		if err := p.next(); err != nil {
			return err
		}
	}
	return p.next()
}

func (p *parser) unary() (*node, error) {
	if !p.isName("not") {
		return p.primary()
	}
	if err := p.enter(); err != nil {
		return nil, err
	}
	defer p.leave()
	n := &node{op: opNot, start: p.tok.pos}
	if err := p.next(); err != nil {
		return nil, err
	}
	arg, err := p.unary()
	n.args, n.end = []*node{arg}, p.last
	return n, err
}

func (p *parser) primary() (*node, error) {
	if n := p.literal(); n != nil {
		return n, p.next()
	}
	start := p.tok.pos
	switch {
	case p.isPunct("("):
		if err := p.enter(); err != nil {
			return nil, err
		}
		defer p.leave()
		if err := p.next(); err != nil {
			return nil, err
		}
		n, err := p.or()
		if err != nil {
			return nil, err
		}
		if !p.isPunct(")") {
			return nil, p.syntax(p.tok.pos, "')' or operator expected", p.hint())
		}
		return n, p.next()
	case p.tok.kind != tokenName:
		return nil, p.syntax(p.tok.pos, "Expression expected", "")
	}
	name, hint := p.tok.text, p.hint()
	if err := p.next(); err != nil {
		return nil, err
	}
	n := &node{op: opUnknown, start: start, end: p.last, str: hint}
	if p.isPunct("(") {
		n.op = functions[name].op // opUnknown for an unknown name
		return n, p.call(n)
	}
	if v, ok := variables[strings.ToLower(name)]; ok {
		n.op = v
	}
	return n, nil
}

// literal returns the node of the current token if the token is a literal, and nil otherwise. It does not consume the token.
func (p *parser) literal() *node {
	n := &node{start: p.tok.pos, end: p.off}
	switch p.tok.kind {
	case tokenString:
		n.op, n.str = opStringLiteral, p.tok.text
	case tokenInt:
		n.op, n.num = opIntLiteral, p.tok.num
	case tokenName:
		op, ok := keywords[p.tok.text]
		if !ok {
			return nil
		}
		n.op = op
	default:
		return nil
	}
	return n
}

// call parses the arguments of a function.
func (p *parser) call(n *node) error {
	if err := p.enter(); err != nil {
		return err
	}
	defer p.leave()
	if err := p.next(); err != nil {
		return err
	}
	for !p.isPunct(")") {
		if len(n.args) > 0 {
			if !p.isPunct(",") {
				return p.syntax(p.tok.pos, "')' or ',' expected", p.hint())
			}
			if err := p.next(); err != nil {
				return err
			}
		}
		arg, err := p.or()
		if err != nil {
			return err
		}
		n.args = append(n.args, arg)
	}
	n.end = p.off
	return p.next()
}

// isWord reports whether a name is an operator, a literal or a function.
func isWord(name string) bool {
	_, comparison := binary[name]
	_, keyword := keywords[name]
	_, function := functions[name]
	return comparison || keyword || function || name == "and" || name == "or" || name == "not"
}
