package webpubsub

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Filter is an OData expression that says which connections an operation is for, as
//
//	userId eq 'user1' and not ('admins' in groups)
//
// It knows the names userId, connectionId, groups and protocol, in any case, the operators or, and, eq, ne, gt, ge, lt, le,
// in and not, and the functions length, tolower, toupper, trim, contains, startswith, endswith, indexof, concat and substring.
// The empty filter is every connection.
//
// Write a constant as it is; put values into a filter with [FormatFilter], never by joining strings.
type Filter string

// FormatFilter puts values into a filter, each quoted as OData, so that no value can change what the filter means:
//
//	webpubsub.FormatFilter("userId ne %v and %v in groups", user, group)
//	webpubsub.FormatFilter("userId in %v", []string{"user1", "user2"})
//
// Every %v takes the next value and %% is a percent sign; %v must not stand within quotes, which it brings along, as a list
// brings its parentheses. Values are strings, integers and bools, nil for null, pointers to these, and slices of these for
// in.
//
// A format or value that makes no filter does not panic: the operation that is given the result refuses it with
// [ErrInvalidArgument] and says what is wrong.
func FormatFilter(format string, values ...any) Filter {
	var b strings.Builder
	quoted := false
	next := 0
	for i := 0; i < len(format); i++ {
		switch c := format[i]; {
		case c == '\'':
			quoted = !quoted // a doubled quote within a string toggles twice
			b.WriteByte(c)
		case c != '%':
			b.WriteByte(c)
		case i+1 < len(format) && format[i+1] == '%':
			b.WriteByte('%')
			i++
		case i+1 >= len(format) || format[i+1] != 'v':
			return badFilter("FormatFilter takes %%v and %%%% only, at position %d", i)
		case quoted:
			return badFilter("FormatFilter's %%v at position %d stands within quotes: it brings its own", i)
		case next >= len(values):
			return badFilter("FormatFilter has more %%v than its %d values", len(values))
		default:
			if problem := appendValue(&b, reflect.ValueOf(values[next]), true); problem != "" {
				return badFilter("FormatFilter's value %d %s", next+1, problem)
			}
			next++
			i++
		}
	}
	if next < len(values) {
		return badFilter("FormatFilter has %d values for %d %%v", len(values), next)
	}
	return Filter(b.String())
}

// appendValue writes a value as an OData literal, or says in words that follow its name why it cannot.
func appendValue(b *strings.Builder, v reflect.Value, list bool) (problem string) {
	switch v.Kind() {
	case reflect.Invalid:
		b.WriteString("null")
	case reflect.String:
		if text := v.String(); !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl) {
			return "is not valid UTF-8 or has control characters"
		}
		b.WriteString("'" + strings.ReplaceAll(v.String(), "'", "''") + "'")
	case reflect.Bool:
		b.WriteString(strconv.FormatBool(v.Bool()))
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		b.WriteString(strconv.FormatInt(v.Int(), 10))
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		b.WriteString(strconv.FormatUint(v.Uint(), 10))
	case reflect.Pointer, reflect.Interface:
		return appendValue(b, v.Elem(), list)
	case reflect.Slice, reflect.Array:
		switch {
		case v.Type().Elem().Kind() == reflect.Uint8:
			return "is bytes: give a string"
		case !list || v.Len() == 0:
			return "is an empty list or a list of lists"
		}
		for i := range v.Len() {
			b.WriteString(map[bool]string{true: "(", false: ","}[i == 0])
			if problem := appendValue(b, v.Index(i), false); problem != "" {
				return problem
			}
		}
		b.WriteByte(')')
	default:
		return "is a " + v.Type().String() + ": no string, integer, bool, nil or slice of these"
	}
	return ""
}

// badFilterMark begins a filter that says why it is none.
const badFilterMark = "\x00"

func badFilter(format string, args ...any) Filter {
	return Filter(badFilterMark + fmt.Sprintf(format, args...))
}

// problem says in words that follow its name why the filter cannot be sent; it is empty for one that can.
func (f Filter) problem() string {
	if problem, ok := strings.CutPrefix(string(f), badFilterMark); ok {
		return "is no filter: " + problem
	}
	if !utf8.ValidString(string(f)) {
		return "is not valid UTF-8"
	}
	if strings.ContainsFunc(string(f), unicode.IsControl) {
		return "has control characters"
	}
	return ""
}
