package odata

// kind is the type of an expression. Kinds are bits, so that a parameter can accept several.
type kind uint8

const (
	kindBool kind = 1 << iota
	kindString
	kindInt
	kindNull // the literal null; strings and integers may turn out null, bools and groups never
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

// variables, by lower-case name: their names count in any case.
var variables = map[string]op{"userid": opUserID, "connectionid": opConnectionID, "protocol": opProtocol, "groups": opGroups}

// function is the signature of a function.
type function struct {
	op       op
	params   []kind
	optional int // how many of params, at the end, may be left out
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

// signatures is functions by operation.
var signatures = func() map[op]function {
	m := make(map[op]function, len(functions))
	for _, f := range functions {
		m[f.op] = f
	}
	return m
}()

// checker finds the kind of every expression of a filter. Microsoft's emulator checks a filter by evaluating it for a
// connection with an empty id, without a user and without groups, and finds other faults only while it sends. The
// checker finds these before anything is sent as well.
type checker struct{ filter string }

// check reports the first fault of a filter's types.
func check(root *node, filter string) error {
	c := checker{filter}
	return c.expect(root, kindBool, root, root)
}

func (c checker) part(n *node) string { return c.filter[n.start:n.end] }

// fault returns an error whose part is the expression named by its first argument.
func (c checker) fault(part *node, detail, hint string) error {
	return &Error{Part: c.part(part), Detail: detail, Hint: hint}
}

// expect checks n and that its kind is one of want. part is the expression that an error about n's kind names, and
// outer is the nearest operator or function around n: an error about a name that means nothing names it.
func (c checker) expect(n *node, want kind, part, outer *node) error {
	got, err := c.kind(n, outer)
	if err != nil {
		return err
	}
	if got&want == 0 {
		return c.fault(part, "Type '"+got.String()+"', expect '"+want.String()+"'.", notHint(part, got))
	}
	return nil
}

func notHint(part *node, got kind) string {
	if part.op == opNot && got != kindBool {
		return "put the comparison after not in parentheses"
	}
	return ""
}

// kind returns the kind of n, whose parts it checks.
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
			return 0, c.fault(n, "Invalid token '"+c.part(n.args[1])+"'.", "in takes groups or a list such as ('a','b')")
		}
		return kindBool, nil
	case opGt, opGe, opLt, opLe:
		if n.args[0].op == opNull || n.args[1].op == opNull { // false, whatever the other side is
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
		return 0, c.fault(n, "Invalid token '"+c.part(n)+"'.", "the function has another number of arguments")
	}
	for i, arg := range n.args {
		if err := c.expect(arg, f.params[i], n, n); err != nil {
			return 0, err
		}
		if f.params[i] == kindInt { // which must not be null, for the connection that filters are checked with
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
