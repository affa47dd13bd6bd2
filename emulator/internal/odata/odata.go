// Package odata reads the OData filters of the service: the filter parameter of a send, and the body of a bulk
// group change.
//
// A filter is a bool expression over one connection: its userId, its connectionId, its protocol and its groups. It is
// parsed and type-checked once and then matched against every connection in question, so [Parse] refuses whatever
// could not be evaluated, and [Expr.Match] cannot fail and does not allocate unless the filter itself builds strings.
//
//	or                          lowest precedence
//	and
//	eq ne gt ge lt le in        left to right; gt ge lt le take integers
//	not                         highest: "not length(userId) gt 5" is "(not length(userId)) gt 5", an error
//
// The names of the four variables are read in any case; operators, functions and literals are lower-case, as in
// OData 4.0. Lengths and indexes count characters (Unicode code points).
package odata

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Vars is what a filter can ask of one connection. For UserID, ConnectionID and Protocol the empty string stands for
// null: the user of an anonymous connection, the protocol of a client without a subprotocol.
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

// Match tells whether the connection that v describes passes the filter. v is only read, and not kept.
func (e *Expr) Match(v *Vars) bool { return e.root.bool(v) }

// Error is a filter that [Parse] refuses.
type Error struct {
	Pos    int    // where: the character of the filter, counted from 1; one past the last when the filter ends too soon
	Reason string // why
}

func (e *Error) Error() string {
	return fmt.Sprintf("invalid filter at character %d: %s", e.Pos, e.Reason)
}

// kind is the type of an expression. Kinds are bits, so that a parameter can say what it takes.
type kind uint8

const (
	kindBool kind = 1 << iota
	kindString
	kindInt
	kindNull // the literal null; strings and integers may turn out null, bools and groups never
	kindGroups
)

func (k kind) String() string {
	switch k {
	case kindBool:
		return "a bool"
	case kindString:
		return "a string"
	case kindInt:
		return "an integer"
	case kindNull:
		return "null"
	case kindGroups:
		return "the collection groups"
	case kindString | kindGroups:
		return "a string or groups"
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

// op is what a node does to its arguments.
type op uint8

const (
	opTrue op = iota
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
	opInGroups // the string
	opInList   // the value, then the list

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
	op   op
	kind kind
	pos  int // byte offset in the filter
	args []*node
	str  string
	num  int64
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
	case opInGroups:
		s, ok := n.args[0].string(v)
		return ok && v.Groups != nil && v.Groups.Has(s)
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

// equal compares two nodes of one kind, or of which one is null. Null equals null alone.
func equal(l, r *node, v *Vars) bool {
	if l.kind == kindNull {
		l, r = r, l
	}
	switch l.kind {
	case kindString:
		ls, lok := l.string(v)
		rs, rok := r.string(v)
		return lok == rok && ls == rs
	case kindInt:
		li, lok := l.int(v)
		ri, rok := r.int(v)
		return lok == rok && li == ri
	case kindBool:
		return r.kind == kindBool && l.bool(v) == r.bool(v)
	}
	return true // null eq null
}

// string evaluates a node of kindString or kindNull; false is null, and then the string is empty.
func (n *node) string(v *Vars) (string, bool) {
	switch n.op {
	case opStringLiteral:
		return n.str, true
	case opUserID:
		return v.UserID, v.UserID != ""
	case opConnectionID:
		return v.ConnectionID, v.ConnectionID != ""
	case opProtocol:
		return v.Protocol, v.Protocol != ""
	case opConcat:
		if a, b, ok := n.strings(v); ok {
			return a + b, true
		}
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
		s = skip(s, start)
		if len(n.args) == 3 {
			length, ok := n.args[2].int(v)
			if !ok {
				return "", false
			}
			s = s[:len(s)-len(skip(s, length))]
		}
		return s, true
	}
	return "", false // opNull
}

// skip is s without its first n characters: all of s when n is negative, nothing when s is shorter.
func skip(s string, n int64) string {
	for ; n > 0 && s != ""; n-- {
		_, size := utf8.DecodeRuneInString(s)
		s = s[size:]
	}
	return s
}

// strings evaluates a function's two string arguments; false is that one of them is null.
func (n *node) strings(v *Vars) (a, b string, ok bool) {
	a, aok := n.args[0].string(v)
	b, bok := n.args[1].string(v)
	return a, b, aok && bok
}

// int evaluates a node of kindInt or kindNull; false is null, and then the integer is 0.
func (n *node) int(v *Vars) (int64, bool) {
	switch n.op {
	case opIntLiteral:
		return n.num, true
	case opIndexOf:
		s, sub, ok := n.strings(v)
		if !ok {
			return -1, true
		}
		i := strings.Index(s, sub)
		if i > 0 {
			i = utf8.RuneCountInString(s[:i])
		}
		return int64(i), true
	case opLength:
		if n.args[0].op == opGroups {
			if v.Groups == nil {
				return 0, true
			}
			return int64(v.Groups.Len()), true
		}
		s, ok := n.args[0].string(v)
		return int64(utf8.RuneCountInString(s)), ok
	}
	return 0, false // opNull
}
