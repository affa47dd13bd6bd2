package odata

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// set is a Groups.
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
		{"in groups, of a concatenation", "concat('r','ed') in groups", true, false},
		{"in a list", "userId in ('Bob', 'Alice')", true, false},
		{"not in a list", "userId in ('Bob')", false, false},
		{"null is in a list with null", "userId in ('Bob', null)", false, true},
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
		{"length counts UTF-16 units", "length('naïve☃😀') eq 8", true, true},
		{"tolower", "tolower(userId) eq 'alice'", true, false},
		{"toupper", "toupper(userId) eq 'ALICE'", true, false},
		{"trim", "trim('  a b ') eq 'a b'", true, true},
		{"tolower of null is null", "tolower(userId) eq null", false, true},
		{"trim of null is null", "trim(null) eq null", true, true},
		{"concat", "concat(userId, concat('-', connectionId)) eq 'Alice-c-1'", true, false},
		{"concat with null is the other", "concat('x', userId) eq 'x'", false, true},
		{"concat of nulls is null", "concat(null, userId) eq null", false, true},
		{"contains", "contains(userId, 'lic')", true, false},
		{"contains with case", "contains(userId, 'LIC')", false, false},
		{"startswith", "startswith(userId, 'Al')", true, false},
		{"endswith", "endswith(userId, 'ce')", true, false},
		{"every string contains the empty string, null does not", "contains(userId, '')", true, false},
		{"no string contains null", "contains('a', null)", false, false},
		{"indexof", "indexof(userId, 'c') eq 3", true, false},
		{"indexof counts UTF-16 units", "indexof('ï😀☃', '☃') eq 3", true, true},
		{"indexof at the start", "indexof(userId, 'A') eq 0", true, false},
		{"indexof of an absent string", "indexof(userId, 'x') eq -1", true, true},
		{"indexof of null", "indexof(null, 'x') eq -1", true, true},
		{"indexof with null", "indexof('x', null) eq -1", true, true},
		{"substring to the end", "substring(userId, 2) eq 'ice'", true, false},
		{"substring with a length", "substring(userId, 1, 3) eq 'lic'", true, false},
		{"substring counts UTF-16 units", "substring('ï😀☃x', 3, 1) eq '☃'", true, true},
		{"substring of a pair", "substring('a😀b', 1, 2) eq '😀'", true, true},
		{"half of a pair is not the pair", "substring('😀', 0, 1) eq '😀'", false, false},
		{"half of a pair equals itself", "substring('a😀', 1, 1) eq substring('😀b', 0, 1)", true, true},
		{"the other half of a pair", "substring('😀', 1, 1) eq substring('b😀', 2, 1)", true, true},
		{"half of a pair has a length of one", "length(substring('a😀', 0, 2)) eq 2", true, true},
		{"substring of a half", "substring(substring('a😀', 0, 2), 1, 1) eq substring('😀', 0, 1)", true, true},
		{"nothing of a half", "substring('😀', 1, 0) eq ''", true, true},
		{"substring past the end", "substring('abc', 7) eq null", true, true},
		{"substring longer than the rest", "substring('abc', 1, 7) eq null", true, true},
		{"substring of nothing at the end", "substring('abc', 3) eq ''", true, true},
		{"substring before the start", "substring('abc', -1) eq null", true, true},
		{"substring of a negative length", "substring('abc', 1, -1) eq null", true, true},
		{"substring of null", "substring(userId, 0) eq null", false, true},
		{"substring from an index", "substring('abcd', indexof('ab', 'b')) eq 'bcd'", true, true},

		{"a string and an integer are unequal", "userId eq 5", false, false},
		{"a string ne an integer", "userId ne 5", true, true},
		{"a bool and a string are unequal", "true ne 'true'", true, true},
		{"a bool and an integer are unequal", "true eq 1", false, false},
		{"groups are not null", "groups eq null", false, false},
		{"groups equal nothing", "groups eq groups", false, false},
		{"an integer is in no group", "1 in groups", false, false},
		{"a mixed list", "length(userId) in ('a', 5)", true, false},
		{"an empty list", "userId in ()", false, false},
		{"an order with null on the left is false", "null lt userId", false, false},
		{"the greatest integer", "2147483647 gt -2147483648", true, true},
		{"a connection id is never null", "connectionId eq null", false, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e, err := Parse(tc.filter)
			require.NoError(t, err)
			require.Equal(t, tc.want, e.Match(&alice), "%s, for Alice", tc.filter)
			require.Equal(t, tc.anon, e.Match(&anonymous), "%s, for an anonymous connection", tc.filter)
		})
	}
}

func TestParseLimitsDepth(t *testing.T) {
	for _, tc := range []struct {
		name                    string
		open, core, close, tail string
		deepest                 int // how many pairs of open and close may surround core
	}{
		{"parentheses", "(", "true", ")", "", 100},
		{"nots", "not ", "true", "", "", 100},
		{"parentheses and nots", "not (", "true", ")", "", 50},
		{"calls", "trim(", "userId", ")", " eq null", 100},
		{"comparisons; the first is not nested", "", "true", " eq true", "", 101},
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

// FuzzParse checks that no filter panics, that an error names a part of the filter, and that Match is deterministic.
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
			require.Contains(t, filter, fault.Part)
			require.NotEmpty(t, fault.Detail)
			return
		}
		for _, v := range []Vars{alice, anonymous} {
			first := e.Match(&v)
			require.Equal(t, first, e.Match(&v))
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
