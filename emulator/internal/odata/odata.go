// Package odata reads the OData filters of the service: the filter parameter of a send, and the body of a bulk
// group change.
//
// A filter is a bool expression over one connection: its userId, its connectionId, its protocol and its groups. It is
// parsed and type-checked once and then matched against every connection in question, so [Parse] rejects whatever
// could not be evaluated, and [Expr.Match] cannot fail and does not allocate unless the filter itself builds strings.
//
//	or                          lowest precedence
//	and
//	eq ne gt ge lt le in        left to right; gt ge lt le take integers, the others any two values
//	not                         highest: "not length(userId) gt 5" is "(not length(userId)) gt 5", an error
//
// The names of the four variables are read in any case; operators, functions and literals are lower-case, as in
// OData 4.0. Integers have 32 bits. Lengths and indexes count UTF-16 units, as .NET strings do.
package odata

import "strings"

// Vars is what a filter can ask of one connection. For UserID and Protocol the empty string stands for null: the user
// of an anonymous connection, the protocol of a client without a subprotocol.
type Vars struct {
	UserID       string
	ConnectionID string
	Protocol     string // the negotiated subprotocol, such as "json.webpubsub.azure.v1"
	Groups       Groups // nil is no groups
}

// Groups is the set of groups a connection is in. Match only calls its methods while it runs, in its caller's
// goroutine, so the caller's own locking covers it.
type Groups interface {
	Has(group string) bool
	Len() int
}

// Expr is a filter that has been parsed. It does not change any more and may be used by several goroutines at once.
type Expr struct {
	root *node
}

// Match reports whether the connection that v describes passes the filter. v is only read, and not kept.
func (e *Expr) Match(v *Vars) bool { return e.root.bool(v) }

// Error reports what is wrong with a filter. Its text is the one with which the service answers.
type Error struct {
	Part   string // the expression that is wrong
	Detail string // why, in the words of Microsoft's OData library where they are known
	Hint   string // what to write instead, for a log; may be empty
}

// Error returns the message of the service's 400.
func (e *Error) Error() string {
	return "Invalid syntax for '" + e.Part + "': " + e.Detail + " (Parameter 'filter')"
}

// op is what a node does to its arguments.
type op uint8

const (
	opUnknown op = iota // a name that means nothing: node.str is a hint
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

// node is one operation of a filter. One concrete type and a switch, rather than an interface or closures, lets the
// compiler see that evaluation keeps nothing, and so a caller's Vars can stay on its stack.
type node struct {
	op         op
	start, end int // where it stands in the filter, in bytes
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

// order evaluates gt, ge, lt and le, which null makes false.
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

// equal compares any two nodes: values of different types are unequal, null equals null, and a collection equals nothing.
func equal(l, r *node, v *Vars) bool {
	lk, ls, li := l.value(v)
	rk, rs, ri := r.value(v)
	return lk == rk && lk != kindGroups && ls == rs && li == ri
}

// value evaluates a node of any kind. The kind is that of the value: kindNull for a string or an integer that is null.
// A bool is an integer of 0 or 1.
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

// string evaluates a node of kindString or kindNull; false is null, and then the string is empty.
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
	case opConcat: // of null and a string is the string
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

// strings evaluates a function's two string arguments; false is that one of them is null.
func (n *node) strings(v *Vars) (a, b string, ok bool) {
	a, aok := n.args[0].string(v)
	b, bok := n.args[1].string(v)
	return a, b, aok && bok
}

// int evaluates a node of kindInt or kindNull; false is null, and then the integer is 0.
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
