package webpubsub

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestFormatFilter(t *testing.T) {
	type userID string
	text := "vic's"
	for _, test := range []struct {
		name   string
		format string
		values []any
		want   Filter
	}{
		{"no values", "userId eq 'a'", nil, "userId eq 'a'"},
		{"a string", "userId ne %v", []any{"user1"}, "userId ne 'user1'"},
		{"a string with quotes", "userId eq %v", []any{"' or true or userId eq '"}, "userId eq ''' or true or userId eq '''"},
		{"a string with a backslash", "userId eq %v", []any{`a\'`}, `userId eq 'a\'''`},
		{"a string with a verb", "userId eq %v and userId ne %v", []any{"%v", "b"}, "userId eq '%v' and userId ne 'b'"},
		{"a string of another type", "userId eq %v", []any{userID("a")}, "userId eq 'a'"},
		{"a filter, as the string that it is", "userId eq %v", []any{Filter("a'")}, "userId eq 'a'''"},
		{"an int", "length(userId) gt %v", []any{-5}, "length(userId) gt -5"},
		{"an unsigned int", "length(userId) gt %v", []any{uint8(5)}, "length(userId) gt 5"},
		{"a bool", "%v", []any{true}, "true"},
		{"nil", "userId eq %v", []any{nil}, "userId eq null"},
		{"a pointer", "userId eq %v", []any{&text}, "userId eq 'vic''s'"},
		{"a nil pointer", "userId eq %v", []any{(*string)(nil)}, "userId eq null"},
		{"strings for in", "userId in %v", []any{[]string{"a", "b'c"}}, "userId in ('a','b''c')"},
		{"ints for in", "length(userId) in %v", []any{[2]int{1, 2}}, "length(userId) in (1,2)"},
		{"values for in", "userId in %v", []any{[]any{"a", nil}}, "userId in ('a',null)"},
		{"a percent sign", "userId eq '100%%'", nil, "userId eq '100%'"},
		{"a value after quotes within a string", "userId ne 'it''s' and userId ne %v", []any{"a"}, "userId ne 'it''s' and userId ne 'a'"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := FormatFilter(test.format, test.values...)
			require.Equal(t, test.want, got)
			require.Empty(t, got.problem())
		})
	}
}

func TestFormatFilterRefuses(t *testing.T) {
	for _, test := range []struct {
		name    string
		filter  Filter
		problem string
	}{
		{"a value within quotes", FormatFilter("userId eq '%v'", "a"), "the %v at position 11 must not be within quotes"},
		{"too few values", FormatFilter("userId eq %v and userId ne %v", "a"), "there are more %v than values (1)"},
		{"too many values", FormatFilter("userId eq %v", "a", "b"), "there are 2 values for 1 %v"},
		{"another verb", FormatFilter("userId eq %s", "a"), "the % at position 10 must be part of %v or %%"},
		{"a percent sign at the end", FormatFilter("userId eq %", "a"), "must be part of %v or %%"},
		{"a float", FormatFilter("length(userId) gt %v", 1.5), "value 1 is a float64"},
		{"a struct", FormatFilter("userId eq %v", struct{}{}), "value 1 is a struct"},
		{"an empty list", FormatFilter("userId in %v", []string{}), "value 1 is an empty list"},
		{"bytes", FormatFilter("userId eq %v", []byte("user1")), "value 1 is a list of bytes"},
		{"a list of lists", FormatFilter("userId in %v", [][]string{{"a"}}), "list of lists"},
		{"a float in a list", FormatFilter("userId in %v", []float64{1}), "is a float64"},
		{"a control character", FormatFilter("userId eq %v", "a\nb"), "control characters"},
		{"a string that is not UTF-8", FormatFilter("userId eq %v", "\xff"), "UTF-8"},
	} {
		t.Run(test.name, func(t *testing.T) {
			require.Contains(t, test.filter.problem(), "is not a filter: ")
			require.Contains(t, test.filter.problem(), test.problem)
		})
	}
}
