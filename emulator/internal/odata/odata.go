// Package odata parses and evaluates the service's OData filters: the filter parameter of a send, and the filter in the body of
// a bulk group change.
//
// A filter is a bool expression over the userId, connectionId, protocol and groups of one connection. [Parse] parses and
// type-checks a filter once. [Expr.Match] then evaluates the filter for each connection. Match cannot fail, because Parse
// rejects everything that cannot be evaluated. It does not allocate unless the filter builds strings.
//
// The operators, from the lowest precedence to the highest:
//
//	or
//	and
//	eq ne gt ge lt le in        left to right; gt, ge, lt and le compare integers, the others any two values
//	not                         "not length(userId) gt 5" is "(not length(userId)) gt 5", which is an error
//
// Variable names are matched without regard to case. Operators, functions and literals must be in lower case, like in
// OData 4.0. Integers have 32 bits. Lengths and indexes count UTF-16 units, like .NET strings.
package odata

import "strings"

// Vars are the values of the variables for one connection. An empty UserID or Protocol stands for null: the connection is
// anonymous, or its client has no subprotocol.
type Vars struct {
	UserID       string
	ConnectionID string
	Protocol     string // the negotiated subprotocol, such as "json.webpubsub.azure.v1"
	Groups       Groups // nil = no groups
}

// Groups is the set of groups of a connection. Match calls its methods only in the caller's goroutine and before it returns, so
// the caller may hold a lock that guards the set.
type Groups interface {
	Has(group string) bool
	Len() int
}

// Expr is a parsed filter. It is immutable and may be used by several goroutines.
type Expr struct {
	root *node
}

// Match reports whether the connection that v describes matches the filter. It neither changes v nor keeps it.
func (e *Expr) Match(v *Vars) bool { return e.root.bool(v) }

// Error is the fault of a filter.
type Error struct {
	Part   string // the invalid expression
	Detail string // the reason, in the words of Microsoft's OData library if they are known
	Hint   string // a suggested correction, for a log; may be empty
}

// Error returns the message of the service's 400 response.
func (e *Error) Error() string {
	return "Invalid syntax for '" + e.Part + "': " + e.Detail + " (Parameter 'filter')"
}

// op is the operation of a node.
type op uint8

const (
	opUnknown op = iota // an unknown name; node.str is a hint
	opTrue
	opFalse
	opNull
	opStringLiteral // node.str
	opIntLiteral    // node.num
	opUserID
	opConnectionID
	opProtocol
	opGroups

	opOr  // any number of arguments
	opAnd // any number of arguments
	opNot
	opEq
	opNe
	opGt
	opGe
	opLt
	opLe
	opIn     // the value, then groups
	opInList // the value, then the list

	opLength
	opToLower
	opToUpper
	opTrim
	opConcat
	opSubstring
	opIndexOf
	opContains
	opStartsWith
	opEndsWith
)

// node is one operation of a filter. It is a concrete type with a switch, rather than an interface or closures, so that escape
// analysis can keep a caller's Vars on the stack.
type node struct {
	op         op
	start, end int // the position in the filter, in bytes
	args       []*node
	str        string
	num        int32
}

// bool evaluates a node of kindBool.
func (n *node) bool(v *Vars) bool {
	switch n.op {
	case opTrue:
		return true
	case opOr:
		for _, a := range n.args {
			if a.bool(v) {
				return true
			}
		}
		return false
	case opAnd:
		for _, a := range n.args {
			if !a.bool(v) {
				return false
			}
		}
		return true
	case opNot:
		return !n.args[0].bool(v)
	case opEq:
		return equal(n.args[0], n.args[1], v)
	case opNe:
		return !equal(n.args[0], n.args[1], v)
	case opGt, opGe, opLt, opLe:
		return n.order(v)
	case opIn:
		k, s, _ := n.args[0].value(v)
		return k == kindString && v.Groups != nil && v.Groups.Has(s)
	case opInList:
		for _, item := range n.args[1:] {
			if equal(n.args[0], item, v) {
				return true
			}
		}
		return false
	case opContains, opStartsWith, opEndsWith:
		s, sub, ok := n.strings(v)
		if !ok {
			return false
		}
		switch n.op {
		case opContains:
			return strings.Contains(s, sub)
		case opStartsWith:
			return strings.HasPrefix(s, sub)
		default:
			return strings.HasSuffix(s, sub)
		}
	}
	return false // opFalse
}

// order evaluates gt, ge, lt and le. A comparison with null is false.
func (n *node) order(v *Vars) bool {
	l, lok := n.args[0].int(v)
	r, rok := n.args[1].int(v)
	if !lok || !rok {
		return false
	}
	switch n.op {
	case opGt:
		return l > r
	case opGe:
		return l >= r
	case opLt:
		return l < r
	default:
		return l <= r
	}
}

// equal compares two nodes of any kind:
//
//   - Values of different types are unequal.
//   - null equals null.
//   - A collection equals nothing.
func equal(l, r *node, v *Vars) bool {
	lk, ls, li := l.value(v)
	rk, rs, ri := r.value(v)
	return lk == rk && lk != kindGroups && ls == rs && li == ri
}

// value evaluates a node of any kind. k is the kind of the value, which is kindNull if a string or an integer is null. A bool is
// returned as the integer 0 or 1.
func (n *node) value(v *Vars) (k kind, s string, i int) {
	switch n.op {
	case opNull:
		return kindNull, "", 0
	case opGroups:
		return kindGroups, "", 0
	case opIntLiteral, opIndexOf, opLength:
		if i, ok := n.int(v); ok {
			return kindInt, "", i
		}
		return kindNull, "", 0
	case opStringLiteral, opUserID, opConnectionID, opProtocol, opToLower, opToUpper, opTrim, opConcat, opSubstring:
		if s, ok := n.string(v); ok {
			return kindString, s, 0
		}
		return kindNull, "", 0
	}
	if n.bool(v) {
		i = 1
	}
	return kindBool, "", i
}

// string evaluates a node of kindString or kindNull. It returns "" and false for null.
func (n *node) string(v *Vars) (string, bool) {
	switch n.op {
	case opStringLiteral:
		return n.str, true
	case opUserID:
		return v.UserID, v.UserID != ""
	case opConnectionID:
		return v.ConnectionID, true
	case opProtocol:
		return v.Protocol, v.Protocol != ""
	case opConcat: // null and a string make the string
		a, aok := n.args[0].string(v)
		b, bok := n.args[1].string(v)
		return a + b, aok || bok
	case opToLower, opToUpper, opTrim:
		s, ok := n.args[0].string(v)
		switch {
		case !ok:
			return "", false
		case n.op == opToLower:
			return strings.ToLower(s), true
		case n.op == opToUpper:
			return strings.ToUpper(s), true
		default:
			return strings.TrimSpace(s), true
		}
	case opSubstring:
		s, ok := n.args[0].string(v)
		start, startOK := n.args[1].int(v)
		if !ok || !startOK {
			return "", false
		}
		length := units(s) - start
		if len(n.args) == 3 {
			if length, ok = n.args[2].int(v); !ok {
				return "", false
			}
		}
		return substring(s, start, length)
	}
	return "", false // opNull
}

// strings evaluates the two string arguments of a function. ok is false if one of them is null.
func (n *node) strings(v *Vars) (a, b string, ok bool) {
	a, aok := n.args[0].string(v)
	b, bok := n.args[1].string(v)
	return a, b, aok && bok
}

// int evaluates a node of kindInt or kindNull. It returns 0 and false for null.
func (n *node) int(v *Vars) (int, bool) {
	switch n.op {
	case opIntLiteral:
		return int(n.num), true
	case opIndexOf:
		s, sub, ok := n.strings(v)
		i := strings.Index(s, sub)
		if !ok || i < 0 {
			return -1, true
		}
		return units(s[:i]), true
	case opLength:
		if n.args[0].op == opGroups {
			if v.Groups == nil {
				return 0, true
			}
			return v.Groups.Len(), true
		}
		s, ok := n.args[0].string(v)
		return units(s), ok
	}
	return 0, false // opNull
}
