package odata

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxDepth is how deep a filter may nest: parentheses, function calls, nots, and comparisons of comparisons. A chain
// of ands or ors is one level, however long.
const maxDepth = 100

var keywords = map[string]*node{
	"true":  {op: opTrue, kind: kindBool},
	"false": {op: opFalse, kind: kindBool},
	"null":  {op: opNull, kind: kindNull},
}

// variables, by lower-case name.
var variables = map[string]*node{
	"userid":       {op: opUserID, kind: kindString},
	"connectionid": {op: opConnectionID, kind: kindString},
	"protocol":     {op: opProtocol, kind: kindString},
	"groups":       {op: opGroups, kind: kindGroups},
}

var comparisons = map[string]op{"eq": opEq, "ne": opNe, "gt": opGt, "ge": opGe, "lt": opLt, "le": opLe, "in": opInList}

// function is the signature of a function. Every string or integer parameter takes null as well.
type function struct {
	op       op
	result   kind
	params   []kind
	optional int // how many of params, at the end, may be left out
}

var functions = map[string]function{
	"length":     {op: opLength, result: kindInt, params: []kind{kindString | kindGroups}},
	"tolower":    {op: opToLower, result: kindString, params: []kind{kindString}},
	"toupper":    {op: opToUpper, result: kindString, params: []kind{kindString}},
	"trim":       {op: opTrim, result: kindString, params: []kind{kindString}},
	"concat":     {op: opConcat, result: kindString, params: []kind{kindString, kindString}},
	"substring":  {op: opSubstring, result: kindString, params: []kind{kindString, kindInt, kindInt}, optional: 1},
	"indexof":    {op: opIndexOf, result: kindInt, params: []kind{kindString, kindString}},
	"contains":   {op: opContains, result: kindBool, params: []kind{kindString, kindString}},
	"startswith": {op: opStartsWith, result: kindBool, params: []kind{kindString, kindString}},
	"endswith":   {op: opEndsWith, result: kindBool, params: []kind{kindString, kindString}},
}

// Parse reads a filter. It refuses, with an [*Error], one that is no bool expression: an empty one, too. (A request
// without a filter, or with an empty one, means every connection; that is for the caller to decide.)
func Parse(filter string) (*Expr, error) {
	p := &parser{filter: filter}
	root, err := p.parse()
	if err != nil {
		return nil, err
	}
	return &Expr{root: root}, nil
}

func (p *parser) parse() (*node, error) {
	if err := p.next(); err != nil {
		return nil, err
	}
	if p.tok.kind == tokenEnd {
		return nil, p.errorf(0, "the filter is empty")
	}
	root, err := p.or()
	if err != nil {
		return nil, err
	}
	if p.tok.kind != tokenEnd {
		return nil, p.unexpectedOperator()
	}
	if root.kind != kindBool {
		return nil, p.errorf(root.pos, "the filter must be a bool expression, this is %v", root.kind)
	}
	return root, nil
}

// parser is a recursive descent over the grammar, with one token of lookahead.
type parser struct {
	filter string
	off    int // the byte after tok
	tok    token
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
	num  int64
}

func (t token) String() string {
	switch t.kind {
	case tokenEnd:
		return "the end of the filter"
	case tokenString:
		return "the string '" + strings.ReplaceAll(t.text, "'", "''") + "'"
	case tokenInt:
		return "the integer " + t.text
	default:
		return strconv.Quote(t.text)
	}
}

// errorf makes an error about the byte at pos, which it turns into a character.
func (p *parser) errorf(pos int, format string, args ...any) error {
	return &Error{Pos: utf8.RuneCountInString(p.filter[:pos]) + 1, Reason: fmt.Sprintf(format, args...)}
}

// next reads the next token into p.tok.
func (p *parser) next() error {
	for p.off < len(p.filter) && (p.filter[p.off] == ' ' || p.filter[p.off] == '\t') {
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
		if r == '"' {
			return p.errorf(pos, `unexpected character '"': strings are written in single quotes`)
		}
		return p.errorf(pos, "unexpected character %q", r)
	}
	return nil
}

// nextString reads a string, in which two quotes stand for one.
func (p *parser) nextString() error {
	pos := p.off
	for rest := pos + 1; ; {
		end := strings.IndexByte(p.filter[rest:], '\'')
		if end < 0 {
			return p.errorf(pos, "the string that starts here has no closing quote")
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
	num, err := strconv.ParseInt(text, 10, 64)
	switch {
	case err == nil && p.off < len(p.filter) && p.filter[p.off] == '.':
		return p.errorf(pos, "numbers must be integers")
	case err == nil:
		p.tok.kind, p.tok.text, p.tok.num = tokenInt, text, num
		return nil
	case strings.Trim(text[1:], "0123456789") == "" && text != "-":
		return p.errorf(pos, "the integer %s is out of range: it must fit in 64 bits", text)
	default:
		return p.errorf(pos, "%q is no integer", text)
	}
}

func (p *parser) skipWord() {
	for p.off < len(p.filter) && (isLetter(p.filter[p.off]) || isDigit(p.filter[p.off])) {
		p.off++
	}
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func isLetter(c byte) bool { return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c == '_' }

func (p *parser) isPunct(text string) bool { return p.tok.kind == tokenPunct && p.tok.text == text }
func (p *parser) isName(text string) bool  { return p.tok.kind == tokenName && p.tok.text == text }

// expect reads over a punctuation mark that must come next.
func (p *parser) expect(text string) error {
	if !p.isPunct(text) {
		return p.errorf(p.tok.pos, "expected %q, got %v", text, p.tok)
	}
	return p.next()
}

// enter goes one level deeper, from the construct at pos; its caller must leave again.
func (p *parser) enter(pos int) error {
	if p.depth == maxDepth {
		return p.errorf(pos, "the filter is nested more than %d levels deep", maxDepth)
	}
	p.depth++
	return nil
}

func (p *parser) leave() { p.depth-- }

func (p *parser) or() (*node, error) { return p.chain("or", opOr, p.and) }

func (p *parser) and() (*node, error) { return p.chain("and", opAnd, p.comparison) }

// chain reads one or more operands between the same logical operator, and makes them one node.
func (p *parser) chain(name string, op op, operand func() (*node, error)) (*node, error) {
	first, err := operand()
	if err != nil || !p.isName(name) {
		return first, err
	}
	n := &node{op: op, kind: kindBool, pos: first.pos, args: []*node{first}}
	if err := p.wantBool(name, first); err != nil {
		return nil, err
	}
	for p.isName(name) {
		if err := p.next(); err != nil {
			return nil, err
		}
		arg, err := operand()
		if err != nil {
			return nil, err
		}
		if err := p.wantBool(name, arg); err != nil {
			return nil, err
		}
		n.args = append(n.args, arg)
	}
	return n, nil
}

func (p *parser) wantBool(name string, arg *node) error {
	if arg.kind != kindBool {
		return p.errorf(arg.pos, "%q takes bools, this is %v", name, arg.kind)
	}
	return nil
}

func (p *parser) comparison() (*node, error) {
	left, err := p.unary()
	if err != nil {
		return nil, err
	}
	outer := p.depth
	defer func() { p.depth = outer }()
	for links := 0; p.tok.kind == tokenName; links++ {
		name, pos := p.tok.text, p.tok.pos
		op, ok := comparisons[name]
		if !ok {
			break
		}
		if links > 0 { // a comparison of a comparison
			if err := p.enter(pos); err != nil {
				return nil, err
			}
		}
		if err := p.next(); err != nil {
			return nil, err
		}
		n := &node{op: op, kind: kindBool, pos: left.pos, args: []*node{left}}
		if op == opInList {
			err = p.in(n)
		} else {
			err = p.compare(n, name, pos)
		}
		if err != nil {
			return nil, err
		}
		left = n
	}
	return left, nil
}

// compare reads the right side of eq, ne, gt, ge, lt or le, whose name stands at pos.
func (p *parser) compare(n *node, name string, pos int) error {
	left := n.args[0]
	right, err := p.unary()
	if err != nil {
		return err
	}
	n.args = append(n.args, right)
	if n.op == opEq || n.op == opNe {
		if !comparable(left.kind, right.kind) {
			return p.errorf(pos, "%q cannot compare %v with %v", name, left.kind, right.kind)
		}
		return nil
	}
	for _, arg := range n.args {
		if arg.kind&(kindInt|kindNull) == 0 {
			return p.errorf(arg.pos, "%q takes integers, this is %v", name, arg.kind)
		}
	}
	return nil
}

// comparable tells whether eq is defined: not on groups, and across kinds only with null.
func comparable(l, r kind) bool {
	return (l|r)&kindGroups == 0 && (l == r || l == kindNull || r == kindNull)
}

// in reads the right side of in: groups, or a list of literals.
func (p *parser) in(n *node) error {
	left := n.args[0]
	if p.tok.kind == tokenName && strings.EqualFold(p.tok.text, "groups") {
		if left.kind&(kindString|kindNull) == 0 {
			return p.errorf(left.pos, "only a string can be in groups, this is %v", left.kind)
		}
		n.op = opInGroups
		return p.next()
	}
	if !p.isPunct("(") {
		return p.errorf(p.tok.pos, `expected groups or a list such as ('a','b') after "in", got %v`, p.tok)
	}
	for first := true; first || p.isPunct(","); first = false {
		if err := p.next(); err != nil {
			return err
		}
		item, err := p.literal()
		if err != nil {
			return err
		}
		if item == nil {
			return p.errorf(p.tok.pos, "expected a string, an integer, true, false or null in the list, got %v", p.tok)
		}
		if !comparable(left.kind, item.kind) {
			return p.errorf(item.pos, "the list holds %v, but what is looked up in it is %v", item.kind, left.kind)
		}
		n.args = append(n.args, item)
	}
	return p.expect(")")
}

func (p *parser) unary() (*node, error) {
	if !p.isName("not") {
		return p.primary()
	}
	pos := p.tok.pos
	if err := p.enter(pos); err != nil {
		return nil, err
	}
	defer p.leave()
	if err := p.next(); err != nil {
		return nil, err
	}
	arg, err := p.unary()
	if err != nil {
		return nil, err
	}
	if arg.kind != kindBool {
		return nil, p.errorf(arg.pos, `"not" takes a bool, this is %v (a comparison after "not" needs parentheses)`, arg.kind)
	}
	return &node{op: opNot, kind: kindBool, pos: pos, args: []*node{arg}}, nil
}

func (p *parser) primary() (*node, error) {
	if n, err := p.literal(); n != nil || err != nil {
		return n, err
	}
	pos := p.tok.pos
	switch {
	case p.isPunct("("):
		if err := p.enter(pos); err != nil {
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
		return n, p.expect(")")
	case p.tok.kind != tokenName:
		return nil, p.errorf(pos, "expected a value, got %v", p.tok)
	}
	name := p.tok.text
	if v, ok := variables[strings.ToLower(name)]; ok {
		return v.at(pos), p.next()
	}
	if err := p.next(); err != nil {
		return nil, err
	}
	f, ok := functions[name]
	switch lower := strings.ToLower(name); {
	case ok:
		return p.call(name, pos, f)
	case lower != name && isWord(lower):
		return nil, p.errorf(pos, "unknown name %q: write %q", name, lower)
	case isWord(name):
		return nil, p.errorf(pos, "expected a value, got the operator %q", name)
	case p.isPunct("("):
		return nil, p.errorf(pos, "unknown function %q", name)
	default:
		return nil, p.errorf(pos, "unknown name %q: expected userId, connectionId, protocol or groups", name)
	}
}

// literal reads a literal; nil when there is none.
func (p *parser) literal() (*node, error) {
	var n *node
	switch p.tok.kind {
	case tokenString:
		n = &node{op: opStringLiteral, kind: kindString, pos: p.tok.pos, str: p.tok.text}
	case tokenInt:
		n = &node{op: opIntLiteral, kind: kindInt, pos: p.tok.pos, num: p.tok.num}
	case tokenName:
		k, ok := keywords[p.tok.text]
		if !ok {
			return nil, nil
		}
		n = k.at(p.tok.pos)
	default:
		return nil, nil
	}
	return n, p.next()
}

func (n *node) at(pos int) *node {
	c := *n
	c.pos = pos
	return &c
}

// call reads the arguments of a function whose name, at pos, has been read.
func (p *parser) call(name string, pos int, f function) (*node, error) {
	if err := p.enter(pos); err != nil {
		return nil, err
	}
	defer p.leave()
	if err := p.expect("("); err != nil {
		return nil, err
	}
	n := &node{op: f.op, kind: f.result, pos: pos}
	for !p.isPunct(")") {
		if len(n.args) > 0 {
			if !p.isPunct(",") {
				return nil, p.errorf(p.tok.pos, `expected "," or ")" after argument %d of %s, got %v`, len(n.args), name, p.tok)
			}
			if err := p.next(); err != nil {
				return nil, err
			}
		}
		arg, err := p.or()
		if err != nil {
			return nil, err
		}
		if i := len(n.args); i < len(f.params) && arg.kind&(f.params[i]|kindNull) == 0 {
			return nil, p.errorf(arg.pos, "argument %d of %s must be %v, this is %v", i+1, name, f.params[i], arg.kind)
		}
		n.args = append(n.args, arg)
	}
	if least, most := len(f.params)-f.optional, len(f.params); len(n.args) < least || len(n.args) > most {
		want := fmt.Sprintf("%d arguments", most)
		switch {
		case least < most:
			want = fmt.Sprintf("%d or %d arguments", least, most)
		case most == 1:
			want = "1 argument"
		}
		return nil, p.errorf(pos, "%s takes %s, got %d", name, want, len(n.args))
	}
	return n, p.next()
}

// unexpectedOperator is the error about a token that follows a whole expression.
func (p *parser) unexpectedOperator() error {
	if lower := strings.ToLower(p.tok.text); p.tok.kind == tokenName && lower != p.tok.text && isWord(lower) {
		return p.errorf(p.tok.pos, "unknown operator %q: write %q", p.tok.text, lower)
	}
	return p.errorf(p.tok.pos, "expected an operator or the end of the filter, got %v", p.tok)
}

// isWord tells whether name, in lower case, means something to the grammar.
func isWord(name string) bool {
	if name == "and" || name == "or" || name == "not" {
		return true
	}
	if _, ok := comparisons[name]; ok {
		return true
	}
	if _, ok := keywords[name]; ok {
		return true
	}
	_, ok := functions[name]
	return ok
}
