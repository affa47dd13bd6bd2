package odata_test

import (
	"testing"

	"github.com/awps-go/webpubsub"
	"github.com/awps-go/webpubsub/emulator/internal/odata"
	"github.com/stretchr/testify/require"
)

// FuzzFormatFilter checks that the parser reads a value from FormatFilter as exactly that value.
func FuzzFormatFilter(f *testing.F) {
	for _, user := range []string{"user1", "'", "''", "' or true or userId eq '", "%v", "\\'", "é日本🎉", "null", "a' in groups"} {
		f.Add(user, user+"x")
	}
	f.Fuzz(func(t *testing.T, user, other string) {
		for _, name := range []string{user, other} {
			vars := odata.Vars{UserID: name, Groups: oneGroup(other)}
			for _, test := range []struct {
				filter webpubsub.Filter
				want   bool
			}{
				{webpubsub.FormatFilter("userId eq %v", user), name == user},
				{webpubsub.FormatFilter("userId in %v", []string{"x", user}), name == user || name == "x"},
				{webpubsub.FormatFilter("not (%v in groups)", user), user != other},
			} {
				expression, err := odata.Parse(string(test.filter))
				if name == "" || test.filter[0] == 0 { // an empty name is null; no operation sends a filter that begins with 0
					return
				}
				require.NoError(t, err, "filter %s", test.filter)
				require.Equal(t, test.want, expression.Match(&vars), "filter %s on user %q", test.filter, name)
			}
		}
	})
}

type oneGroup string

func (g oneGroup) Has(group string) bool { return group == string(g) }
func (g oneGroup) Len() int              { return 1 }
