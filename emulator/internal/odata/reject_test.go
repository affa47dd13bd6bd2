package odata

import (
	"cmp"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParseRejects(t *testing.T) {
	for _, tc := range []struct {
		name   string
		filter string
		part   string // "" = the whole filter
		detail string
		hint   string
	}{
		{"from a recording of the service", "invalid filter", "", "Syntax error at position 14 in 'invalid filter'.", ""},
		{"from the documentation", "not length(userId) gt 5", "not length(userId)", "Type 'null', expect 'bool'.",
			"put the comparison after not in parentheses"},
		{"null", "null", "", "Type 'null', expect 'bool'.", ""},

		{"the empty filter", "", "", "Expression expected at position 0 in ''.", ""},
		{"white space alone", "  ", "", "Expression expected at position 2 in '  '.", ""},
		{"a string", "'a'", "", "Type 'string', expect 'bool'.", ""},
		{"an integer", "length(connectionId)", "", "Type 'int', expect 'bool'.", ""},
		{"an integer that is null without a user", "length(trim(userId))", "", "Type 'null', expect 'bool'.", ""},
		{"the number of groups", "length(groups)", "", "Type 'int', expect 'bool'.", ""},
		{"a text that is null without a user", "concat(userId,tolower(protocol))", "", "Type 'null', expect 'bool'.", ""},
		{"a text that is not", "concat(userId,'a')", "", "Type 'string', expect 'bool'.", ""},
		{"a part of the id, which is empty", "substring(connectionId,1)", "", "Type 'string', expect 'bool'.", ""},
		{"the collection", "groups", "", "Type 'collection', expect 'bool'.", ""},
		{"not before a comparison without parentheses", "not length(connectionId) gt 5", "not length(connectionId)",
			"Type 'int', expect 'bool'.", "put the comparison after not in parentheses"},
		{"not of a string", "(not 'a')", "not 'a'", "Type 'string', expect 'bool'.", "put the comparison after not in parentheses"},
		{"and of a string on the left", "userId and true", "", "Type 'string', expect 'bool'.", ""},
		{"or of null on the right", "true or null", "", "Type 'null', expect 'bool'.", ""},
		{"a string after true or", "true or userId", "", "Type 'string', expect 'bool'.", ""},
		{"an order of strings", "true and userId gt 'a'", "userId gt 'a'", "Type 'string', expect 'int'.", ""},
		{"an order of a user, which may be null", "userId gt 5", "", "Type 'string', expect 'int'.", ""},
		{"an order of bools", "1 le true", "", "Type 'bool', expect 'int'.", ""},
		{"an order that fails only for a user that is not null", "length(userId) gt 'a'", "", "Type 'string', expect 'int'.", ""},
		{"in a variable", "userId in connectionId", "", "Invalid token 'connectionId'.", "the right side of in must be groups or a list such as ('a','b')"},
		{"in a string", "userId in 'a'", "", "Invalid token ''a''.", "the right side of in must be groups or a list such as ('a','b')"},
		{"in a list of variables", "userId in (connectionId)", "", "Expression expected at position 11 in 'userId in (connectionId)'.",
			"a list may hold strings, whole numbers, true, false and null"},
		{"in an unterminated list", "userId in ('a'", "", "')' or ',' expected at position 14 in 'userId in ('a''.", ""},
		{"an unknown variable", "ab eq 1", "", "Token 'ab' is not supported.", ""},
		{"an unknown variable inside", "true or length(ab) eq 1", "length(ab)", "Token 'ab' is not supported.", ""},
		{"an unknown function", "lower(userId) eq 'a'", "", "Token 'lower(userId)' is not supported.", ""},
		{"a lambda", "groups/any(g: g)", "", "Syntax error: character '/' is not valid at position 6 in 'groups/any(g: g)'.", ""},
		{"an unknown operator", "userId like 'a'", "", "Syntax error at position 11 in 'userId like 'a''.", ""},
		{"an operator in upper case", "userId EQ 'a'", "", "Syntax error at position 9 in 'userId EQ 'a''.", "write eq in lower case"},
		{"a function in camel case", "startsWith(userId,'a')", "", "Token 'startsWith(userId,'a')' is not supported.", "write startswith in lower case"},
		{"a literal in upper case", "userId eq NULL", "", "Token 'NULL' is not supported.", "write null in lower case"},
		{"no right side", "userId eq", "", "Expression expected at position 9 in 'userId eq'.", ""},
		{"no operand of and", "true and", "", "Expression expected at position 8 in 'true and'.", ""},
		{"an open parenthesis", "(true", "", "')' or operator expected at position 5 in '(true'.", ""},
		{"a closing parenthesis", "true)", "", "Syntax error at position 5 in 'true)'.", ""},
		{"an empty parenthesis", "()", "", "Expression expected at position 1 in '()'.", ""},
		{"an unterminated string", "userId eq 'a''", "", "There is an unterminated string literal at position 14 in 'userId eq 'a'''.",
			"write a quote in a string twice"},
		{"double quotes", `userId eq "a"`, "", `Syntax error: character '"' is not valid at position 10 in 'userId eq "a"'.`, "write strings in single quotes"},
		{"a symbol", "userId = 'a'", "", "Syntax error: character '=' is not valid at position 7 in 'userId = 'a''.", ""},
		{"a decimal", "1 gt 1.5", "", "Syntax error at position 5 in '1 gt 1.5'.", "numbers must be whole and fit in 32 bits"},
		{"an integer of 64 bits", "1 eq 2147483648", "", "Syntax error at position 5 in '1 eq 2147483648'.", "numbers must be whole and fit in 32 bits"},
		{"digits with letters", "1 eq 2a", "", "Syntax error at position 5 in '1 eq 2a'.", "numbers must be whole and fit in 32 bits"},
		{"a minus alone", "1 eq -", "", "A digit was expected at position 6 in '1 eq -'.", ""},
		{"a function without arguments", "length eq 1", "", "Token 'length' is not supported.", ""},
		{"too few arguments", "contains(userId)", "", "Invalid token 'contains(userId)'.", "wrong number of arguments"},
		{"too many arguments", "substring(userId,1,2,3) eq 'a'", "substring(userId,1,2,3)", "Invalid token 'substring(userId,1,2,3)'.",
			"wrong number of arguments"},
		{"a missing argument", "contains(userId,)", "", "Expression expected at position 16 in 'contains(userId,)'.", ""},
		{"arguments without comma", "contains(userId 'a')", "", "')' or ',' expected at position 16 in 'contains(userId 'a')'.", ""},
		{"a wrong argument", "contains(userId, 1)", "", "Type 'int', expect 'string'.", ""},
		{"contains of groups", "contains(groups, 'a')", "", "Type 'collection', expect 'string'.", ""},
		{"substring from null", "substring('abc', null) eq null", "substring('abc', null)", "Type 'null', expect 'int'.", ""},
		{"substring of a length that may be null", "substring('abc', 0, length(userId)) eq null", "substring('abc', 0, length(userId))",
			"Type 'null', expect 'int'.", ""},
		{"a fault after wide characters", "userId eq 'ï☃😀' xor true", "", "Syntax error at position 20 in 'userId eq 'ï☃😀' xor true'.", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := Parse(tc.filter)
			var e *Error
			require.ErrorAs(t, err, &e)
			require.Equal(t, Error{Part: cmp.Or(tc.part, tc.filter), Detail: tc.detail, Hint: tc.hint}, *e)
			require.EqualError(t, err, fmt.Sprintf("Invalid syntax for '%s': %s (Parameter 'filter')", e.Part, e.Detail))
		})
	}
}
