package eventhandler_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/awps-go/webpubsub/eventhandler"
)

func TestValidation(t *testing.T) {
	anyOrigin := []string(nil)
	for name, test := range map[string]struct {
		origins []string
		asks    string
		status  int
		answer  string
	}{
		"any origin":                        {anyOrigin, "name.webpubsub.azure.com", 200, "*"},
		"any of two origins":                {anyOrigin, "a.example, b.example", 200, "*"},
		"the origin":                        {[]string{"name.webpubsub.azure.com"}, "name.webpubsub.azure.com", 200, "name.webpubsub.azure.com"},
		"the origin in capitals":            {[]string{"Name.webpubsub.azure.com"}, "name.WEBPUBSUB.azure.com", 200, "name.WEBPUBSUB.azure.com"},
		"one of the origins":                {[]string{"a.example", "b.example"}, "b.example", 200, "b.example"},
		"one of the origins that ask":       {[]string{"b.example"}, "a.example,b.example , c.example", 200, "b.example"},
		"two of the origins that ask":       {[]string{"*.example"}, "a.example, x.com, b.example", 200, "a.example\nb.example"},
		"a wildcard":                        {[]string{"*.webpubsub.azure.com"}, "name.webpubsub.azure.com", 200, "name.webpubsub.azure.com"},
		"a wildcard amid":                   {[]string{"name*.azure.com"}, "name.webpubsub.azure.com", 200, "name.webpubsub.azure.com"},
		"several wildcards":                 {[]string{"a*b*c*"}, "aXbXbYcZ", 200, "aXbXbYcZ"},
		"a star":                            {[]string{"*"}, "whoever.example", 200, "whoever.example"},
		"the origin at a port":              {[]string{"localhost"}, "localhost:8080", 200, "localhost:8080"},
		"the origin at that port":           {[]string{"localhost:8080"}, "localhost:8080", 200, "localhost:8080"},
		"the origin at another port":        {[]string{"localhost:8080"}, "localhost:8081", 403, ""},
		"another origin":                    {[]string{"a.example"}, "b.example", 403, ""},
		"an origin behind the end":          {[]string{"a.example"}, "a.example.evil", 403, ""},
		"an origin before the start":        {[]string{"a.example"}, "evil-a.example", 403, ""},
		"a wildcard does not span its end":  {[]string{"*.azure.com"}, "x.azure.com.evil", 403, ""},
		"a wildcard needs what is after it": {[]string{"ab*ba"}, "aba", 403, ""},
		"a dot is a dot":                    {[]string{"a.example"}, "aXexample", 403, ""},
		"an empty origin":                   {[]string{"*"}, ",", 403, ""},
		"no origin":                         {anyOrigin, "", 400, ""},
	} {
		for _, method := range []string{http.MethodOptions, http.MethodGet} {
			t.Run(method+" "+name, func(t *testing.T) {
				options := neverCalled(t)
				options.AllowedOrigins = test.origins
				r, err := http.NewRequest(method, serve(t, options)+"/eventhandler/validate", nil)
				require.NoError(t, err)
				with("WebHook-Request-Origin", test.asks)(r)
				answer := do(t, r)
				require.Equal(t, test.status, answer.status)
				require.Equal(t, test.answer, strings.Join(answer.header.Values("WebHook-Allowed-Origin"), "\n"), "one origin for each line")
			})
		}
	}
}

func TestAnEventOfAnotherOriginIsRefused(t *testing.T) {
	options := neverCalled(t)
	options.AllowedOrigins = []string{"other.webpubsub.azure.com"}
	answer := do(t, newEvent(serve(t, options), "sys.connected", "application/json", "{}"))
	require.Equal(t, http.StatusForbidden, answer.status)

	url := serve(t, eventhandler.Options{AllowedOrigins: []string{"*.webpubsub.azure.com"}})
	answer = do(t, newEvent(url, "sys.connected", "application/json", "{}"))
	require.Equal(t, http.StatusNoContent, answer.status)
}

// An event names its origins again. It is accepted if one of them is allowed.
func TestTheOriginsOfAnEvent(t *testing.T) {
	for name, test := range map[string]struct {
		allowed, lines []string
		status         int
	}{
		"one of a list":        {[]string{"a.example"}, []string{"b.example, A.example"}, 204},
		"one of two lines":     {[]string{"a.example"}, []string{"b.example", "a.example"}, 204},
		"any":                  {nil, []string{"b.example"}, 204},
		"any, and none":        {nil, nil, 204},
		"none of a list":       {[]string{"a.example"}, []string{"b.example, a.example.evil"}, 403},
		"none of two lines":    {[]string{"a.example"}, []string{"b.example", "evil-a.example"}, 403},
		"no origin":            {[]string{"a.example"}, nil, 403},
		"no origin for a star": {[]string{"*"}, nil, 403},
	} {
		t.Run(name, func(t *testing.T) {
			url := serve(t, eventhandler.Options{AllowedOrigins: test.allowed})
			edit := with("WebHook-Request-Origin", "")
			if test.lines != nil {
				edit = lines("WebHook-Request-Origin", test.lines...)
			}
			answer := do(t, newEvent(url, "sys.connected", "application/json", "{}", edit))
			require.Equal(t, test.status, answer.status)
			if test.lines == nil {
				return
			}
			r, err := http.NewRequest(http.MethodOptions, url, nil)
			require.NoError(t, err)
			edit(r)
			require.Equal(t, test.status == 204, do(t, r).status == 200, "validation and events agree")
		})
	}
}
