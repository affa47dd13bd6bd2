package odata

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// set is the simplest Groups.
type set map[string]bool

func (s set) Has(group string) bool { return s[group] }
func (s set) Len() int              { return len(s) }

var (
	alice = Vars{
		UserID: "Alice", ConnectionID: "c-1", Protocol: "json.webpubsub.azure.v1",
		Groups: set{"red": true, "blue": true, "it's": true},
	}
	anonymous = Vars{ConnectionID: "c-2"}
)

func TestMatch(t *testing.T) {
	for _, tc := range []struct {
		name   string
		filter string
		want   bool // for alice
		anon   bool // for anonymous
	}{
		{"a user is compared with case", "userId eq 'Alice'", true, false},
		{"another case is another user", "userId eq 'alice'", false, false},
		{"ne is not eq", "userId ne 'Bob'", true, true},
		{"variables are read in any case", "USERID eq 'Alice' and ConnectionID eq 'c-1'", true, false},
		{"groups are read in any case", "'red' in GROUPS", true, false},
		{"a quote is written twice", "'it''s' in groups", true, false},
		{"white space is free", "  userId\teq   'Alice'  ", true, false},
		{"parentheses need no white space", "(userId eq 'Alice')and(true)", true, false},
		{"a bool literal is a filter", "true", true, true},
		{"false matches nobody", "false", false, false},

		{"and binds tighter than or", "true or true and false", true, true},
		{"parentheses come first", "(true or true) and false", false, false},
		{"not binds tighter than and", "not false and false", false, false},
		{"not binds tighter than eq", "not true eq false", true, true},
		{"not not cancels", "not not true", true, true},
		{"not takes a parenthesis without white space", "not(userId eq 'Alice')", false, true},
		{"not takes a call", "not startswith(userId,'B')", true, true},
		{"comparisons go left to right", "1 eq 2 eq false", true, true},
		{"a long or is true by its last", strings.Repeat("false or ", 500) + "true", true, true},
		{"a long and is false by its last", strings.Repeat("true and ", 500) + "false", false, false},

		{"an anonymous connection's user is null", "userId eq null", false, true},
		{"null ne null is false", "null ne null", false, false},
		{"null on the left", "null eq userId", false, true},
		{"a user ne null", "userId ne null", true, false},
		{"null is not the empty string", "userId eq ''", false, false},
		{"no subprotocol is null", "protocol eq null", false, true},
		{"a protocol is a string", "protocol eq 'json.webpubsub.azure.v1'", true, false},
		{"a bool is never null", "true eq null", false, false},
		{"null is in no group", "null in groups", false, false},
		{"a null user is in no group", "userId in groups", false, false},

		{"in groups", "'red' in groups", true, false},
		{"not in groups", "not ('green' in groups)", true, true},
		{"in groups, built", "concat('r','ed') in groups", true, false},
		{"in a list", "userId in ('Bob', 'Alice')", true, false},
		{"in no list", "userId in ('Bob')", false, false},
		{"null is in a list that says so", "userId in ('Bob', null)", false, true},
		{"an integer in a list", "length(userId) in (4,5)", true, false},
		{"a bool in a list", "true in (false)", false, false},
		{"null in a list", "null in ('a', null)", true, true},

		{"gt", "length(userId) gt 4", true, false},
		{"gt is strict", "length(userId) gt 5", false, false},
		{"ge", "length(userId) ge 5", true, false},
		{"lt", "length(userId) lt 6", true, false},
		{"lt is strict", "length(userId) lt 5", false, false},
		{"le", "length(userId) le 5", true, false},
		{"an order with null is false", "length(userId) gt null or null le null", false, false},
		{"negative integers", "-2 lt -1", true, true},

		{"length of groups", "length(groups) eq 3", true, false},
		{"length of no groups", "length(groups) eq 0", false, true},
		{"length of null is null", "length(userId) eq null", false, true},
		{"length counts characters", "length('naïve☃😀') eq 7", true, true},
		{"tolower", "tolower(userId) eq 'alice'", true, false},
		{"toupper", "toupper(userId) eq 'ALICE'", true, false},
		{"trim", "trim('  a b ') eq 'a b'", true, true},
		{"tolower of null is null", "tolower(userId) eq null", false, true},
		{"trim of null is null", "trim(null) eq null", true, true},
		{"concat", "concat(userId, concat('-', connectionId)) eq 'Alice-c-1'", true, false},
		{"concat with null is null", "concat('x', userId) eq null", false, true},
		{"contains", "contains(userId, 'lic')", true, false},
		{"contains with case", "contains(userId, 'LIC')", false, false},
		{"startswith", "startswith(userId, 'Al')", true, false},
		{"endswith", "endswith(userId, 'ce')", true, false},
		{"everything contains nothing, but null does not", "contains(userId, '')", true, false},
		{"nothing contains null", "contains('a', null)", false, false},
		{"indexof", "indexof(userId, 'c') eq 3", true, false},
		{"indexof counts characters", "indexof('ïï☃', '☃') eq 2", true, true},
		{"indexof at the start", "indexof(userId, 'A') eq 0", true, false},
		{"indexof of what is not there", "indexof(userId, 'x') eq -1", true, true},
		{"indexof of null", "indexof(null, 'x') eq -1", true, true},
		{"indexof with null", "indexof('x', null) eq -1", true, true},
		{"substring to the end", "substring(userId, 2) eq 'ice'", true, false},
		{"substring with a length", "substring(userId, 1, 3) eq 'lic'", true, false},
		{"substring counts characters", "substring('ï☃x', 1, 1) eq '☃'", true, true},
		{"substring past the end", "substring('abc', 7) eq ''", true, true},
		{"substring longer than the rest", "substring('abc', 1, 7) eq 'bc'", true, true},
		{"substring before the start", "substring('abc', -1) eq 'abc'", true, true},
		{"substring of a negative length", "substring('abc', 1, -1) eq ''", true, true},
		{"substring of null", "substring(userId, 0) eq null", false, true},
		{"substring from null", "substring('abc', null) eq null", true, true},
		{"substring of null length", "substring('abc', 0, null) eq null", true, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e, err := Parse(tc.filter)
			require.NoError(t, err)
			require.Equal(t, tc.want, e.Match(&alice), "%s, for Alice", tc.filter)
			require.Equal(t, tc.anon, e.Match(&anonymous), "%s, for an anonymous connection", tc.filter)
		})
	}
}

func TestParseRefuses(t *testing.T) {
	for _, tc := range []struct {
		name   string
		filter string
		pos    int
		reason string
	}{
		{"the empty filter", "", 1, "the filter is empty"},
		{"white space alone", "  ", 1, "the filter is empty"},
		{"a string", "'a'", 1, "the filter must be a bool expression, this is a string"},
		{"an integer", "length(userId)", 1, "this is an integer"},
		{"null", "null", 1, "this is null"},
		{"the collection", "groups", 1, "this is the collection groups"},
		{"not before a comparison without parentheses", "not length(userId) gt 5", 5,
			`"not" takes a bool, this is an integer (a comparison after "not" needs parentheses)`},
		{"not of a string", "not userId", 5, `"not" takes a bool`},
		{"not of null", "not null", 5, `"not" takes a bool`},
		{"and of a string on the left", "userId and true", 1, `"and" takes bools, this is a string`},
		{"or of null on the right", "true or null", 9, `"or" takes bools, this is null`},
		{"an order of strings", "userId gt 'a'", 1, `"gt" takes integers, this is a string`},
		{"an order of bools", "1 le true", 6, `"le" takes integers, this is a bool`},
		{"a string and an integer compared", "userId eq 5", 8, `"eq" cannot compare a string with an integer`},
		{"a bool and a string compared", "true ne 'true'", 6, `"ne" cannot compare a bool with a string`},
		{"groups compared", "groups eq null", 8, `"eq" cannot compare the collection groups with null`},
		{"an integer in groups", "1 in groups", 1, "only a string can be in groups, this is an integer"},
		{"groups in groups", "groups in groups", 1, "only a string can be in groups"},
		{"an integer in a list of strings", "1 in (2, 'a')", 10, "the list holds a string, but what is looked up in it is an integer"},
		{"in an empty list", "userId in ()", 12, `expected a string, an integer, true, false or null in the list, got ")"`},
		{"in a list of variables", "userId in (connectionId)", 12, `in the list, got "connectionId"`},
		{"in a list without end", "userId in ('a'", 15, `expected ")", got the end of the filter`},
		{"in a string", "userId in 'a'", 11, `expected groups or a list such as ('a','b') after "in", got the string 'a'`},
		{"an unknown variable", "user eq 'a'", 1, `unknown name "user": expected userId, connectionId, protocol or groups`},
		{"an unknown function", "lower(userId) eq 'a'", 1, `unknown function "lower"`},
		{"an unknown operator", "userId like 'a'", 8, `expected an operator or the end of the filter, got "like"`},
		{"an operator in upper case", "userId EQ 'a'", 8, `unknown operator "EQ": write "eq"`},
		{"not in upper case", "NOT true", 1, `unknown name "NOT": write "not"`},
		{"a function in camel case", "startsWith(userId,'a')", 1, `unknown name "startsWith": write "startswith"`},
		{"a literal in upper case", "userId eq NULL", 11, `unknown name "NULL": write "null"`},
		{"no right side", "userId eq", 10, "expected a value, got the end of the filter"},
		{"no left side", "eq 'a'", 1, `expected a value, got the operator "eq"`},
		{"no operand of and", "true and", 9, "expected a value, got the end of the filter"},
		{"an open parenthesis", "(true", 6, `expected ")", got the end of the filter`},
		{"a closing parenthesis", "true)", 5, `expected an operator or the end of the filter, got ")"`},
		{"an empty parenthesis", "()", 2, `expected a value, got ")"`},
		{"two expressions", "true false", 6, `expected an operator or the end of the filter, got "false"`},
		{"a string without end", "userId eq 'a''", 11, "the string that starts here has no closing quote"},
		{"double quotes", `userId eq "a"`, 11, "strings are written in single quotes"},
		{"a symbol", "userId = 'a'", 8, "unexpected character '='"},
		{"a decimal", "length(userId) gt 1.5", 19, "numbers must be integers"},
		{"an integer out of range", "1 eq 9223372036854775808", 6, "the integer 9223372036854775808 is out of range"},
		{"digits with letters", "1 eq 2a", 6, `"2a" is no integer`},
		{"a minus alone", "1 eq -", 6, `"-" is no integer`},
		{"a function without arguments", "length", 7, `expected "(", got the end of the filter`},
		{"too few arguments", "contains(userId)", 1, "contains takes 2 arguments, got 1"},
		{"no argument", "length() eq 1", 1, "length takes 1 argument, got 0"},
		{"too many arguments", "substring(userId,1,2,3) eq 'a'", 1, "substring takes 2 or 3 arguments, got 4"},
		{"a missing argument", "contains(userId,)", 17, `expected a value, got ")"`},
		{"arguments without comma", "contains(userId 'a')", 17, `expected "," or ")" after argument 1 of contains, got the string 'a'`},
		{"a wrong argument", "contains(userId, 1)", 18, "argument 2 of contains must be a string, this is an integer"},
		{"contains of groups", "contains(groups, 'a')", 10, "argument 1 of contains must be a string, this is the collection groups"},
		{"length of a bool", "length(true) eq 1", 8, "argument 1 of length must be a string or groups, this is a bool"},
		{"substring from a string", "substring(userId, 'a') eq 'a'", 19, "argument 2 of substring must be an integer"},
		{"a fault after wide characters", "userId eq 'ï☃😀' xor true", 17, `got "xor"`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := Parse(tc.filter)
			var e *Error
			require.ErrorAs(t, err, &e)
			require.Contains(t, e.Reason, tc.reason)
			require.Equal(t, tc.pos, e.Pos, "%s", e.Reason)
			require.Equal(t, fmt.Sprintf("invalid filter at character %d: %s", e.Pos, e.Reason), err.Error())
		})
	}
}

func TestParseLimitsDepth(t *testing.T) {
	for _, tc := range []struct {
		name                    string
		open, core, close, tail string
		deepest                 int // how often open and close may stand around core
	}{
		{"parentheses", "(", "true", ")", "", 100},
		{"nots", "not ", "true", "", "", 100},
		{"parentheses and nots", "not (", "true", ")", "", 50},
		{"calls", "trim(", "userId", ")", " eq null", 100},
		{"comparisons, of which the first is not nested", "", "true", " eq true", "", 101},
	} {
		t.Run(tc.name, func(t *testing.T) {
			nest := func(n int) string {
				return strings.Repeat(tc.open, n) + tc.core + strings.Repeat(tc.close, n) + tc.tail
			}
			e, err := Parse(nest(tc.deepest))
			require.NoError(t, err)
			e.Match(&alice)
			_, err = Parse(nest(tc.deepest + 1))
			require.ErrorContains(t, err, "nested more than 100 levels deep")
		})
	}
}

func TestMatchDoesNotAllocate(t *testing.T) {
	e, err := Parse("userId ne 'Bob' and ('red' in groups or connectionId in ('x','y')) and length(substring(userId,1)) gt 2")
	require.NoError(t, err)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		v := Vars{UserID: "Alice", ConnectionID: "c-1", Groups: alice.Groups}
		if !e.Match(&v) {
			t.Error("no match")
		}
	}))
}

// FuzzParse: no filter panics, what is refused says where, and what parses evaluates, the same way every time.
func FuzzParse(f *testing.F) {
	for _, filter := range []string{
		"", "userId eq 'a'", "not length(userId) gt 5", "'g' in groups and not (protocol eq null)",
		"substring(concat(userId,'it''s'),1,2) in ('a',null) or indexof(trim(userId),'x') ge -1",
		"endswith(toupper(tolower(userId)),'☃') eq contains(null,'')", "((((true", "1 eq 9223372036854775808", "'\xff' in groups",
	} {
		f.Add(filter)
	}
	f.Fuzz(func(t *testing.T, filter string) {
		e, err := Parse(filter)
		if err != nil {
			var fault *Error
			require.ErrorAs(t, err, &fault)
			require.GreaterOrEqual(t, fault.Pos, 1)
			require.LessOrEqual(t, fault.Pos, len(filter)+1)
			require.NotEmpty(t, fault.Reason)
			return
		}
		for _, v := range []Vars{alice, anonymous} {
			require.Equal(t, e.Match(&v), e.Match(&v))
		}
	})
}

func BenchmarkMatch(b *testing.B) {
	e, err := Parse("userId ne 'Bob' and 'red' in groups")
	require.NoError(b, err)
	b.ReportAllocs()
	for b.Loop() {
		e.Match(&alice)
	}
}
