package hub

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestIDsAreInTheOrderOfTheService(t *testing.T) {
	for _, row := range []string{
		"-s2 31C m-P VeM",              // recorded: three pages and their members
		"_dpe 0SR e4D sm6 ZaW zTO",     // recorded
		"a A aa Aa ab b B",             // case counts last
		"_ - . 0 9 a Z é",              // character classes
		"https://host/ zmade Zmade Zn", // a complete URL as a continuation token
	} {
		want := strings.Fields(row)
		for range 20 {
			got := slices.Clone(want)
			rand.Shuffle(len(got), func(i, j int) { got[i], got[j] = got[j], got[i] })
			slices.SortFunc(got, compareIDs)
			require.Equal(t, want, got)
		}
	}
	require.Zero(t, compareIDs("a-B", "a-B"))
}

func TestAPageBeginsWithItsGreatestID(t *testing.T) {
	h := newTestService(t, nil).Hub("chat")
	var ids []string
	for i := range 50 {
		id := fmt.Sprintf("%c%d", "aBc_-9Z"[i%7], i)
		ids = append(ids, id)
		h.Add(&Connection{ID: id, Hub: h}, []string{"g"}, func() {})
	}
	slices.SortFunc(ids, compareIDs)
	after, layouts := "", map[string]bool{}
	for at := 0; at < len(ids); at += 8 {
		size := min(8, len(ids)-at)
		for range 20 {
			page, more := h.Members("g", after, 8)
			require.Len(t, page, size)
			require.Equal(t, at+size < len(ids), more)
			require.Equal(t, ids[at+size-1], page[0].ConnectionID)
			layouts[fmt.Sprint(page)] = true
			slices.SortFunc(page, func(a, b Member) int { return compareIDs(a.ConnectionID, b.ConnectionID) })
			for i, m := range page {
				require.Equal(t, ids[at+i], m.ConnectionID)
			}
		}
		after = ids[at+size-1]
	}
	require.Greater(t, len(layouts), 7, "the order of a page should vary between equal requests")
	page, more := h.Members("g", after, 8)
	require.Empty(t, page)
	require.NotNil(t, page, "an empty page must be [] in JSON, not null")
	require.False(t, more)
}
