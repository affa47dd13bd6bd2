package emulator_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"github.com/awps-go/webpubsub/emulator"
)

func TestTheNextRequestsThatMatchFail(t *testing.T) {
	srv := emulator.StartT(t, nil)
	api := rest{t, srv}
	c := dialJSON(t, srv, dialOptions{user: "ann"})
	require.NoError(t, srv.InjectFault(emulator.Fault{Operation: "SendToAll", Times: 2, Status: 429, RetryAfter: 1500 * time.Millisecond}))
	require.NoError(t, srv.InjectFault(emulator.Fault{Operation: "SendToAll", Status: 503}))

	send := func() response {
		return api.do("POST", "hubs/chat/:send", []byte("hello"), "Content-Type", "text/plain")
	}
	for range 2 {
		r := send()
		require.Equal(t, 429, r.status)
		require.Equal(t, "2", r.header.Get("Retry-After"))
		require.Equal(t, "InjectedFault", r.errorCode())
		api.text("hubs/chat/users/ann/:send", "another operation")
		require.Equal(t, "another operation", c.object()["data"])
	}
	r := send()
	require.Equal(t, 503, r.status)
	require.Empty(t, r.header.Get("Retry-After"))
	c.expectNothing(srv)
	require.Equal(t, 202, send().status)
	require.Equal(t, "hello", c.object()["data"])
}

func TestAFaultLastsUntilItIsCleared(t *testing.T) {
	srv := emulator.StartT(t, nil)
	api := rest{t, srv}
	c := dialJSON(t, srv, dialOptions{roles: []string{"webpubsub.joinLeaveGroup"}})
	require.NoError(t, srv.InjectFault(emulator.Fault{Times: emulator.UntilCleared, Status: 503}))
	require.NoError(t, srv.InjectClientFault(emulator.ClientFault{Times: emulator.UntilCleared, Error: "InternalServerError"}))
	for range 3 {
		api.must(503, "HEAD", "hubs/chat/connections/"+c.id)
		require.Contains(t, c.ask(`{"type":"joinGroup","group":"g","ackId":1}`), "InternalServerError")
	}
	srv.ClearFaults()
	api.must(200, "HEAD", "hubs/chat/connections/"+c.id)
	require.Contains(t, c.ask(`{"type":"joinGroup","group":"g","ackId":1}`), `"success":true`)
}

func TestAFaultForAnyOperationDoesNotAffectHandshakes(t *testing.T) {
	srv := emulator.StartT(t, nil)
	require.NoError(t, srv.InjectFault(emulator.Fault{Times: 2, Status: 500}))
	dialJSON(t, srv, dialOptions{})
	rest{t, srv}.must(500, "HEAD", "hubs/chat/users/ann")
	rest{t, srv}.must(500, "POST", "hubs/chat/:closeConnections")
	rest{t, srv}.must(404, "HEAD", "hubs/chat/users/ann")
}

func TestHandshakesFail(t *testing.T) {
	srv := emulator.StartT(t, nil)
	require.NoError(t, srv.InjectFault(emulator.Fault{Operation: emulator.OperationConnect, Times: 2, Status: 503}))
	target := dialOptions{}.httpURL(t, srv)
	require.Equal(t, 503, upgradeStatus(t, target))
	require.Equal(t, 503, upgradeStatus(t, target))
	require.Equal(t, 101, upgradeStatus(t, target))
}

func TestAConnectionIsCut(t *testing.T) {
	for name, tt := range map[string]struct {
		cut    emulator.Cut
		effect bool
	}{
		"before the request takes effect": {emulator.CutBeforeEffect, false},
		"after the request took effect":   {emulator.CutAfterEffect, true},
	} {
		t.Run(name, func(t *testing.T) {
			srv := emulator.StartT(t, nil)
			c := dialJSON(t, srv, dialOptions{})
			require.NoError(t, srv.InjectFault(emulator.Fault{Operation: "AddConnectionToGroup", Cut: tt.cut}))
			target := srv.Endpoint() + "/api/hubs/chat/groups/g/connections/" + c.id
			req, _ := http.NewRequest("PUT", target, nil)
			req.Header.Set("Authorization", "Bearer "+sign(t, srv.AccessKey(), jwt.MapClaims{"aud": target, "exp": srv.Now().Add(time.Minute).Unix()}))
			transport := &http.Transport{DisableKeepAlives: true} // otherwise net/http retries
			_, err := transport.RoundTrip(req)
			require.ErrorContains(t, err, "EOF")
			require.Equal(t, tt.effect, srv.Connections("chat")[0].Groups != nil)
			require.Equal(t, 1, srv.RequestCount("AddConnectionToGroup"))
			require.Equal(t, 0, srv.Requests()[0].Status)
		})
	}
}

func TestADelayedRequestWaitsForTheClock(t *testing.T) {
	srv := emulator.StartT(t, nil)
	c := dialJSON(t, srv, dialOptions{})
	require.NoError(t, srv.InjectFault(emulator.Fault{Operation: "SendToAll", Delay: time.Minute}))
	answered := make(chan int, 1)
	go func() {
		answered <- rest{t, srv}.do("POST", "hubs/chat/:send", []byte("late"), "Content-Type", "text/plain").status
	}()
	require.NoError(t, srv.WaitForDelayed(t.Context(), 1))
	c.expectNothing(srv)
	srv.Advance(59 * time.Second)
	require.Empty(t, answered)
	srv.Advance(time.Second)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorContains(t, srv.WaitForDelayed(ended, 1), "waiting for 1 delayed requests and events, there are 0")
	require.Equal(t, 202, <-answered)
	require.Equal(t, "late", c.object()["data"])
}

func TestCloseDoesNotWaitForADelay(t *testing.T) {
	srv := emulator.StartT(t, nil)
	require.NoError(t, srv.InjectFault(emulator.Fault{Delay: 24 * time.Hour}))
	answered := make(chan int, 1)
	go func() { answered <- rest{t, srv}.do("HEAD", "hubs/chat/users/ann", nil).status }()
	require.NoError(t, srv.WaitForDelayed(t.Context(), 1))
	srv.Close()
	require.Equal(t, 404, <-answered)
}

// failureRecorder is a test that records failures instead of failing.
type failureRecorder struct {
	testing.TB
	failures []string
}

func (r *failureRecorder) Errorf(format string, args ...any) {
	r.failures = append(r.failures, fmt.Sprintf(format, args...))
}

// take returns the failures since the last call.
func (r *failureRecorder) take() string {
	defer func() { r.failures = nil }()
	return strings.Join(r.failures, "; ")
}

func TestInvalidFaults(t *testing.T) {
	tb := &failureRecorder{TB: t}
	srv := emulator.StartT(tb, nil)
	for name, tt := range map[string]struct {
		fault emulator.Fault
		want  string
	}{
		"no effect":                      {emulator.Fault{Operation: "SendToAll", Times: 2}, "Fault has no effect"},
		"an unknown operation":           {emulator.Fault{Operation: "SendToNobody", Status: 500}, `Fault.Operation: there is no operation "SendToNobody"`},
		"a handshake in lower case":      {emulator.Fault{Operation: "connect", Status: 500}, "CloseUserConnections, Connect, "},
		"a negative number of times":     {emulator.Fault{Times: -2, Status: 500}, "Fault.Times"},
		"a status that is not an error":  {emulator.Fault{Status: 202}, "Fault.Status"},
		"a negative delay":               {emulator.Fault{Delay: -1}, "Fault.Delay"},
		"a Retry-After without a status": {emulator.Fault{RetryAfter: 1}, "Fault.RetryAfter"},
		"an unknown cut":                 {emulator.Fault{Cut: 3}, "Fault.Cut"},
		"a cut and a status":             {emulator.Fault{Cut: emulator.CutAfterEffect, Status: 500}, "Fault.Cut"},
		"tokens that clients sign":       {emulator.Fault{Operation: "GetClientAccessToken", Status: 500}, "needs Options.AcceptBearer"},
		"a handshake that takes effect":  {emulator.Fault{Operation: emulator.OperationConnect, Cut: emulator.CutAfterEffect}, "DropConnection"},
	} {
		err := srv.InjectFault(tt.fault)
		require.ErrorContains(t, err, tt.want, name)
		require.Equal(t, err.Error(), tb.take(), "the error fails the test")
	}
	require.NoError(t, srv.InjectFault(emulator.Fault{Status: 500}))
	require.Empty(t, tb.take())
	srv.ClearFaults()
	rest{t, srv}.must(404, "HEAD", "hubs/chat/users/ann")

	srv = emulator.StartT(t, &emulator.Options{AcceptBearer: func(string) bool { return true }})
	require.NoError(t, srv.InjectFault(emulator.Fault{Operation: "GetClientAccessToken", Status: 500}))
	require.Equal(t, 500, rest{t, srv}.do("POST", "hubs/chat/:generateToken", nil, "Authorization", "Bearer from Entra").status)
}

func TestDroppingAConnection(t *testing.T) {
	srv := emulator.StartT(t, nil)
	plain := dialJSON(t, srv, dialOptions{})
	require.True(t, srv.DropConnection("chat", plain.id))
	_, _, err := plain.ws.Read(t.Context())
	require.Error(t, err)
	require.Equal(t, websocket.StatusCode(-1), websocket.CloseStatus(err), "there is no close frame")
	require.NoError(t, srv.WaitForConnections(t.Context(), "chat", 0))
	require.False(t, srv.DropConnection("chat", plain.id))

	reliable := dialReliable(t, srv, dialOptions{})
	require.True(t, srv.DropConnection("chat", reliable.id))
	require.True(t, srv.Connections("chat")[0].Recovering, "the server has noticed")
	require.NoError(t, srv.WaitForRecovering(t.Context(), "chat", 1))
	reliable.comeBack()
	require.NoError(t, srv.WaitForRecovering(t.Context(), "chat", 0))
}

// A test whose fault has not happened may have tested nothing, so the log names the fault.
func TestFaultsThatHaveNotHappenedAreLogged(t *testing.T) {
	logger, lines := logged()
	srv := emulator.StartT(t, &emulator.Options{Logger: logger})
	for _, f := range []emulator.Fault{
		{Operation: emulator.OperationSendToAll, Times: 2, Status: 500},
		{Operation: emulator.OperationGroupExists, Status: 500},
		{Operation: emulator.OperationUserExists, Times: emulator.UntilCleared, Status: 500},
		{Operation: emulator.OperationConnectionExists, Times: emulator.UntilCleared, Status: 500},
	} {
		require.NoError(t, srv.InjectFault(f))
	}
	require.NoError(t, srv.InjectClientFault(emulator.ClientFault{Operation: emulator.ClientInvoke, ConnectionID: "gone", Error: "x"}))
	api := rest{t, srv}
	api.must(500, "POST", "hubs/chat/:send")
	api.must(500, "HEAD", "hubs/chat/groups/g")
	api.must(500, "HEAD", "hubs/chat/users/ann")
	require.NoError(t, srv.Close())
	require.Contains(t, lines(), `msg="an injected fault has not happened" operation=SendToAll times=1`)
	require.Contains(t, lines(), `msg="an injected fault has not happened" operation=ConnectionExists times=-1`)
	require.Contains(t, lines(), `msg="an injected fault has not happened" clientOperation=invoke connection=gone times=1`)
	require.Equal(t, 3, strings.Count(lines(), "has not happened"))
}
