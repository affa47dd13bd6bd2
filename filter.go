package webpubsub

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Filter is an OData expression that selects the connections of an operation, such as
//
//	userId eq 'user1' and not ('admins' in groups)
//
// A filter can use
//   - the names userId, connectionId, groups and protocol, which are case-insensitive.
//   - the operators or, and, eq, ne, gt, ge, lt, le, in and not.
//   - the functions length, tolower, toupper, trim, contains, startswith, endswith, indexof, concat and substring.
//
// The empty filter selects every connection. Constants can be part of the text. Insert variable values with
// [FormatFilter], never by concatenating strings.
type Filter string

// maxFilter is the maximum length of a filter that FormatFilter returns. No service accepts a URL that long.
const maxFilter = 1 << 20

// FormatFilter inserts values into a filter. It quotes each value for OData, so no value can change the meaning of the
// filter:
//
//	webpubsub.FormatFilter("userId ne %v and %v in groups", user, group)
//	webpubsub.FormatFilter("userId in %v", []string{"user1", "user2"})
//
// Each %v is replaced by the next value, and %% by a percent sign. Do not put quotes around a %v, or parentheses around
// a list: FormatFilter adds them. A value is
//   - a string, integer or bool.
//   - nil, which becomes null.
//   - a pointer to one of these.
//   - for the operator in, a non-empty slice or array of these.
//
// The result is at most 1 MiB long.
//
// FormatFilter does not panic if the format or a value is invalid. Instead, the operation that uses the filter returns
// [ErrInvalidArgument] with a description of the problem.
func FormatFilter(format string, values ...any) Filter {
	var b strings.Builder
	quoted := false
	next := 0
	for i := 0; i < len(format); i++ {
		switch c := format[i]; {
		case c == '\'':
			quoted = !quoted // a doubled quote in a string toggles twice
			b.WriteByte(c)
		case c != '%':
			b.WriteByte(c)
		case i+1 < len(format) && format[i+1] == '%':
			b.WriteByte('%')
			i++
		case i+1 >= len(format) || format[i+1] != 'v':
			return badFilter("the %% at position %d must be part of %%v or %%%%", i)
		case quoted:
			return badFilter("the %%v at position %d must not be within quotes: FormatFilter adds them", i)
		case next >= len(values):
			return badFilter("there are more %%v than values (%d)", len(values))
		default:
			if problem := appendValue(&b, reflect.ValueOf(values[next]), true, 0); problem != "" {
				return badFilter("value %d %s", next+1, problem)
			}
			next++
			i++
		}
		if b.Len() > maxFilter {
			return badFilter("it is longer than 1 MiB")
		}
	}
	if next < len(values) {
		return badFilter("there are %d values for %d %%v", len(values), next)
	}
	return Filter(b.String())
}

// appendValue appends v as an OData literal. If v cannot be written, it returns the problem, phrased to follow the
// value's name. It limits the number of pointers that it follows, because pointers may form a cycle.
func appendValue(b *strings.Builder, v reflect.Value, list bool, pointers int) (problem string) {
	const maxPointers = 8
	switch v.Kind() {
	case reflect.Invalid:
		b.WriteString("null")
	case reflect.String:
		if v.Len() > maxFilter {
			return "is longer than 1 MiB"
		}
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
		if pointers == maxPointers {
			return "has more than 8 levels of pointers"
		}
		return appendValue(b, v.Elem(), list, pointers+1)
	case reflect.Slice, reflect.Array:
		switch {
		case v.Type().Elem().Kind() == reflect.Uint8:
			return "is a list of bytes; use a string"
		case !list || v.Len() == 0:
			return "is an empty list or a list of lists"
		}
		for i := range v.Len() {
			b.WriteString(map[bool]string{true: "(", false: ","}[i == 0])
			if problem := appendValue(b, v.Index(i), false, pointers); problem != "" {
				return problem
			}
			if b.Len() > maxFilter {
				return "is longer than 1 MiB"
			}
		}
		b.WriteByte(')')
	default:
		return "is a " + v.Type().String() + "; use a string, integer, bool, nil or slice of these"
	}
	return ""
}

// badFilterMark is the prefix of a Filter that holds FormatFilter's error instead of a filter.
const badFilterMark = "\x00"

func badFilter(format string, args ...any) Filter {
	return Filter(badFilterMark + fmt.Sprintf(format, args...))
}

// problem returns why the filter cannot be sent, phrased to follow the filter's name, or "" if it can.
func (f Filter) problem() string {
	if problem, ok := strings.CutPrefix(string(f), badFilterMark); ok {
		return "is not a filter: " + problem
	}
	if !utf8.ValidString(string(f)) {
		return "is not valid UTF-8"
	}
	if strings.ContainsFunc(string(f), unicode.IsControl) {
		return "has control characters"
	}
	return ""
}
