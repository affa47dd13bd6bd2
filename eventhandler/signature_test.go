package eventhandler_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/stretchr/testify/require"

	"github.com/awps-go/webpubsub/eventhandler"
)

func TestAnEventIsGenuineIfOneKeyHasSignedIt(t *testing.T) {
	const primary, secondary = "primary key", "secondary key"
	connectionString := func(key string) string {
		return "Endpoint=https://name.webpubsub.azure.com;AccessKey=" + key + ";Version=1.0;"
	}
	for name, test := range map[string]struct {
		options   eventhandler.Options
		signature string
		status    int
	}{
		"the only key":                     {eventhandler.Options{AccessKeys: []string{primary}}, sign("c1", primary), 204},
		"the primary key":                  {eventhandler.Options{AccessKeys: []string{primary}}, sign("c1", primary, secondary), 204},
		"the secondary key":                {eventhandler.Options{AccessKeys: []string{secondary}}, sign("c1", primary, secondary), 204},
		"the second of the handler's keys": {eventhandler.Options{AccessKeys: []string{"old", primary}}, sign("c1", primary), 204},
		"a space after the comma":          {eventhandler.Options{AccessKeys: []string{secondary}}, strings.Replace(sign("c1", primary, secondary), ",", ", ", 1), 204},
		"a connection string":              {eventhandler.Options{ConnectionStrings: []string{connectionString("a=b")}}, sign("c1", "a=b"), 204},
		"a credential":                     {eventhandler.Options{KeyCredentials: []*azcore.KeyCredential{azcore.NewKeyCredential(primary)}}, sign("c1", primary), 204},
		"keys of all forms": {eventhandler.Options{
			AccessKeys: []string{"1"}, ConnectionStrings: []string{connectionString("2")},
			KeyCredentials: []*azcore.KeyCredential{azcore.NewKeyCredential(primary)},
		}, sign("c1", primary), 204},
		"nothing, if that is switched off": {eventhandler.Options{DangerouslyDisableSignatureVerification: true}, "", 204},
		"another key":                      {eventhandler.Options{AccessKeys: []string{primary}}, sign("c1", secondary), 401},
		"another credential":               {eventhandler.Options{KeyCredentials: []*azcore.KeyCredential{azcore.NewKeyCredential(primary)}}, sign("c1", secondary), 401},
		"the empty key":                    {eventhandler.Options{AccessKeys: []string{primary}}, sign("c1", ""), 401},
	} {
		t.Run(name, func(t *testing.T) {
			url := serve(t, test.options)
			answer := do(t, newEvent(url, "sys.connect", "application/json", "{}", with("ce-signature", test.signature)))
			require.Equal(t, test.status, answer.status, answer.body)
		})
	}
}

func TestAHandlerIsPrintedWithoutItsKeys(t *testing.T) {
	handler, err := eventhandler.New(&eventhandler.Options{
		Hub: "chat", AccessKeys: []string{"marked-key"}, ConnectionStrings: []string{"Endpoint=https://h;AccessKey=marked-key"},
	})
	require.NoError(t, err)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		require.NotContains(t, fmt.Sprintf(verb, handler), "marked-key", verb)
		require.NotContains(t, fmt.Sprintf(verb, *handler), "marked-key", verb)
	}
}

func TestAKeyCredentialIsReadForEachEvent(t *testing.T) {
	called := 0
	credential := azcore.NewKeyCredential("first")
	url := serve(t, eventhandler.Options{
		KeyCredentials: []*azcore.KeyCredential{credential},
		OnConnected:    func(context.Context, *eventhandler.ConnectedRequest) error { called++; return nil },
	})
	status := func(key string) int {
		return do(t, newEvent(url, "sys.connected", "application/json", "{}", with("ce-signature", sign("c1", key)))).status
	}
	require.Equal(t, http.StatusNoContent, status("first"))
	credential.Update("second")
	require.Equal(t, http.StatusUnauthorized, status("first"))
	require.Equal(t, http.StatusNoContent, status("second"))
	credential.Update("")
	require.Equal(t, http.StatusUnauthorized, status(""), "no key verifies nothing")
	require.Equal(t, 2, called)
}
