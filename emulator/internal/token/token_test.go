package token

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAudiencesThatAreTheSameURL(t *testing.T) {
	for _, tt := range []struct {
		aud, target string
		same        bool
	}{
		{"http://host/a", "http://host:80/a", true},
		{"https://host:443/a?b", "https://host/a?b", true},
		{"http://host:443/a", "http://host/a", false},
		{"HTTP://HOST/A%20B", "http://host/a%20b", true},
		{"http://host/a b", "http://host/a%20b", true},
		{"http://host/a%2fb", "http://host/a%2Fb", true},
		{"http://host/a'b", "http://host/a%27b", true},
		{"http://host/%2520", "http://host/%20", false},
		{"http://host/a", "http://host/b", false},
		{"", "http://host/", false},
		{"host", "http://host/%zz", false},
	} {
		require.Equal(t, tt.same, sameURL(tt.aud, tt.target), "%s and %s", tt.aud, tt.target)
	}
}
