package odata

// kind is the type of an expression. Kinds are bits because a parameter may accept several kinds.
type kind uint8

const (
	kindBool kind = 1 << iota
	kindString
	kindInt
	kindNull // the literal null; strings and integers may evaluate to null, bools and groups may not
	kindGroups

	kindAny = kindBool | kindString | kindInt | kindNull | kindGroups
)

// String returns the name of a kind in the service's error texts.
func (k kind) String() string {
	switch {
	case k&kindBool != 0:
		return "bool"
	case k&kindString != 0:
		return "string"
	case k&kindInt != 0:
		return "int"
	case k&kindNull != 0:
		return "null"
	}
	return "collection"
}

var keywords = map[string]op{"true": opTrue, "false": opFalse, "null": opNull}

// variables are the variables by lower-case name. Their names are matched without regard to case.
var variables = map[string]op{"userid": opUserID, "connectionid": opConnectionID, "protocol": opProtocol, "groups": opGroups}

// function is the signature of a function.
type function struct {
	op       op
	params   []kind
	optional int // the number of params at the end that may be omitted
}

const nullableString = kindString | kindNull

var functions = map[string]function{
	"length":     {op: opLength, params: []kind{nullableString | kindGroups}},
	"tolower":    {op: opToLower, params: []kind{nullableString}},
	"toupper":    {op: opToUpper, params: []kind{nullableString}},
	"trim":       {op: opTrim, params: []kind{nullableString}},
	"concat":     {op: opConcat, params: []kind{nullableString, nullableString}},
	"substring":  {op: opSubstring, params: []kind{nullableString, kindInt, kindInt}, optional: 1},
	"indexof":    {op: opIndexOf, params: []kind{nullableString, nullableString}},
	"contains":   {op: opContains, params: []kind{nullableString, nullableString}},
	"startswith": {op: opStartsWith, params: []kind{nullableString, nullableString}},
	"endswith":   {op: opEndsWith, params: []kind{nullableString, nullableString}},
}

// signatures are the functions by operation.
var signatures = func() map[op]function {
	m := make(map[op]function, len(functions))
	for _, f := range functions {
		m[f.op] = f
	}
	return m
}()

// checker finds the kind of every expression in a filter. Microsoft's emulator checks a filter by evaluating it for a connection
// with an empty id, without a user and without groups. It notices other faults only while sending. checker finds those faults
// before anything is sent.
type checker struct{ filter string }

// check returns the first type error in a filter.
func check(root *node, filter string) error {
	c := checker{filter}
	return c.expect(root, kindBool, root, root)
}

func (c checker) part(n *node) string { return c.filter[n.start:n.end] }

// fault returns an error about the expression part.
func (c checker) fault(part *node, detail, hint string) error {
	return &Error{Part: c.part(part), Detail: detail, Hint: hint}
}

// expect checks n, and that its kind is one of want. part is the expression that an error about n's kind names. outer is the
// nearest operator or function around n, which an error about an unknown name names.
func (c checker) expect(n *node, want kind, part, outer *node) error {
	got, err := c.kind(n, outer)
	if err != nil {
		return err
	}
	if got&want == 0 {
		if want == kindBool && n.op != opUserID && n.op != opProtocol && n.isNullInCheck() {
			got = kindNull // as in the documentation's error text for "not length(userId) gt 5"
		}
		return c.fault(part, "Type '"+got.String()+"', expect '"+want.String()+"'.", notHint(part, got))
	}
	return nil
}

// isNullInCheck reports whether n is null for the connection with which the service checks filters.
func (n *node) isNullInCheck() bool {
	switch n.op {
	case opNull, opUserID, opProtocol:
		return true
	case opLength, opToLower, opToUpper, opTrim, opSubstring:
		return n.args[0].isNullInCheck()
	case opConcat:
		return n.args[0].isNullInCheck() && n.args[1].isNullInCheck()
	}
	return false
}

func notHint(part *node, got kind) string {
	if part.op == opNot && got != kindBool {
		return "put the comparison after not in parentheses"
	}
	return ""
}

// kind checks the arguments of n and returns the kind of n.
func (c checker) kind(n, outer *node) (kind, error) {
	switch n.op {
	case opTrue, opFalse:
		return kindBool, nil
	case opNull:
		return kindNull, nil
	case opStringLiteral, opUserID, opConnectionID, opProtocol:
		return kindString, nil
	case opIntLiteral:
		return kindInt, nil
	case opGroups:
		return kindGroups, nil
	case opUnknown:
		return 0, c.fault(outer, "Token '"+c.part(n)+"' is not supported.", n.str)
	case opOr, opAnd, opNot:
		return kindBool, c.all(n, kindBool)
	case opEq, opNe, opInList:
		return kindBool, c.all(n, kindAny)
	case opIn:
		if err := c.expect(n.args[0], kindAny, n, n); err != nil {
			return 0, err
		}
		if n.args[1].op != opGroups {
			return 0, c.fault(n, "Invalid token '"+c.part(n.args[1])+"'.", "the right side of in must be groups or a list such as ('a','b')")
		}
		return kindBool, nil
	case opGt, opGe, opLt, opLe:
		if n.args[0].op == opNull || n.args[1].op == opNull { // false for every other operand, so any kind is allowed
			return kindBool, c.all(n, kindAny)
		}
		return kindBool, c.all(n, kindInt)
	}
	return c.call(n)
}

// all checks every argument of n against one kind.
func (c checker) all(n *node, want kind) error {
	for _, arg := range n.args {
		if err := c.expect(arg, want, n, n); err != nil {
			return err
		}
	}
	return nil
}

// call checks the arguments of a function and returns the kind of its result.
func (c checker) call(n *node) (kind, error) {
	f := signatures[n.op]
	if most := len(f.params); len(n.args) > most || len(n.args) < most-f.optional {
		return 0, c.fault(n, "Invalid token '"+c.part(n)+"'.", "wrong number of arguments")
	}
	for i, arg := range n.args {
		if err := c.expect(arg, f.params[i], n, n); err != nil {
			return 0, err
		}
		if f.params[i] == kindInt { // must not be null for the connection with which the service checks filters
			if _, ok := arg.int(&Vars{}); !ok {
				return 0, c.fault(n, "Type 'null', expect 'int'.", "")
			}
		}
	}
	switch n.op {
	case opLength, opIndexOf:
		return kindInt, nil
	case opContains, opStartsWith, opEndsWith:
		return kindBool, nil
	}
	return kindString, nil
}
