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
// It has
//   - the names userId, connectionId, groups and protocol, in any case.
//   - the operators or, and, eq, ne, gt, ge, lt, le, in and not.
//   - the functions length, tolower, toupper, trim, contains, startswith, endswith, indexof, concat and substring.
//
// The empty filter selects every connection. Write constants as they are. Put values into a filter with [FormatFilter],
// never by joining strings.
type Filter string

// maxFilter bounds a filter that FormatFilter makes. No service accepts a URL of that length.
const maxFilter = 1 << 20

// FormatFilter puts values into a filter. Each value is quoted for OData, so that no value can change the meaning of the
// filter:
//
//	webpubsub.FormatFilter("userId ne %v and %v in groups", user, group)
//	webpubsub.FormatFilter("userId in %v", []string{"user1", "user2"})
//
// Every %v takes the next value, and %% is a percent sign. A %v must not be within quotes, which FormatFilter adds, as it
// adds the parentheses of a list. Values are strings, integers, bools, nil for null, pointers to these, and, for in,
// non-empty slices and arrays of these. The result is at most 1 MiB long.
//
// FormatFilter does not panic for a wrong format or value: the operation that receives the result returns
// [ErrInvalidArgument], which names the fault.
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
			return badFilter("FormatFilter accepts %%v and %%%% only, at position %d", i)
		case quoted:
			return badFilter("FormatFilter's %%v at position %d is within quotes, which it adds itself", i)
		case next >= len(values):
			return badFilter("FormatFilter has more %%v than its %d values", len(values))
		default:
			if problem := appendValue(&b, reflect.ValueOf(values[next]), true, 0); problem != "" {
				return badFilter("FormatFilter's value %d %s", next+1, problem)
			}
			next++
			i++
		}
		if b.Len() > maxFilter {
			return badFilter("FormatFilter's result is longer than 1 MiB")
		}
	}
	if next < len(values) {
		return badFilter("FormatFilter has %d values for %d %%v", len(values), next)
	}
	return Filter(b.String())
}

// appendValue writes a value as an OData literal, or returns why it cannot, in words that follow the value's name. It
// follows a few pointers only, which may form a circle.
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
			return "is a pointer to a pointer, too often"
		}
		return appendValue(b, v.Elem(), list, pointers+1)
	case reflect.Slice, reflect.Array:
		switch {
		case v.Type().Elem().Kind() == reflect.Uint8:
			return "is a list of bytes: use a string"
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
		return "is a " + v.Type().String() + ", and not a string, integer, bool, nil or slice of these"
	}
	return ""
}

// badFilterMark begins a value that is not a filter, but the reason why there is none.
const badFilterMark = "\x00"

func badFilter(format string, args ...any) Filter {
	return Filter(badFilterMark + fmt.Sprintf(format, args...))
}

// problem returns why the filter cannot be sent, in words that follow the filter's name; it is empty if the filter can be
// sent.
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
