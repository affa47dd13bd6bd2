package browsertest

import (
	"context"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"github.com/awps-go/webpubsub"
	"github.com/awps-go/webpubsub/emulator"
	"github.com/awps-go/webpubsub/eventhandler"
)

// The tests below make the pictures in the README:
//
//	BROWSERTEST_SCREENSHOTS=$(git rev-parse --show-toplevel)/docs go test -count=1 -run Picture ./...

func TestPictureOfTheChat(t *testing.T) {
	browser := startBrowser(t)
	url := startChat(t)
	ann, bob := newPage(t, browser, "ann"), newPage(t, browser, "bob")
	ann.enter(url)
	bob.enter(url)
	for _, said := range []struct {
		by   *page
		text string
	}{
		{ann, "Good morning! The new lamps have arrived."},
		{bob, "All forty of them?"},
		{ann, "Thirty-nine, and a box of screws."},
		{bob, "I will count the screws."},
	} {
		said.by.say(said.text)
		for _, p := range []*page{ann, bob} {
			p.waitForText("#messages li.message", said.text)
		}
	}
	bob.do(chromedp.Click(chromedp.CSS(`#people [data-name=ann] .who`)), chromedp.WaitVisible(chromedp.CSS("#to")))
	bob.say("Save one for me?")
	ann.waitForText("#messages li.direct", "bob to you")
	ann.waitUntil(`document.querySelectorAll("#people li").length === 2`)
	ann.do(chromedp.EmulateViewport(860, 470))
	screenshot(t, ann, "chat")
}

func TestPictureOfTheLiveView(t *testing.T) {
	browser := startBrowser(t)
	srv := emulator.StartT(t, nil)
	handler, err := eventhandler.New(&eventhandler.Options{
		Hub: "shop", ConnectionStrings: []string{srv.ConnectionString()},
		OnUserEvent: func(context.Context, *eventhandler.UserEventRequest) (*eventhandler.UserEventResponse, error) {
			return nil, nil
		},
	})
	require.NoError(t, err)
	require.NoError(t, srv.SetHubSettings("shop", emulator.HubSettings{EventHandlers: []emulator.EventHandler{
		{Handler: handler, UserEventPattern: "*"},
	}}))
	p := newPage(t, browser, "somebody who looks")
	p.do(chromedp.EmulateViewport(1060, 560), chromedp.Navigate(srv.Endpoint()))
	p.waitForText("#status", "live")
	client := serviceClient(t, srv, "shop")
	const reliable = "json.reliable.webpubsub.azure.v1"
	ann, _ := join(t, srv, "shop", reliable, &webpubsub.ClientAccessTokenOptions{UserID: "ann", Groups: []string{"offers", "lamps"}})
	join(t, srv, "shop", reliable, &webpubsub.ClientAccessTokenOptions{UserID: "bob", Groups: []string{"offers"}})
	join(t, srv, "shop", "", nil)
	require.NoError(t, client.SendToGroup(t.Context(), "offers", webpubsub.JSON(map[string]any{"lamp": "blue", "price": 12}), nil))
	p.waitForText("[data-kind=message].event .text", "2 recipients")
	require.NoError(t, ann.Write(t.Context(), websocket.MessageText,
		[]byte(`{"type":"event","event":"order","dataType":"json","data":{"lamp":"blue","pieces":2}}`)))
	p.waitForText("[data-kind=event].event", "event order: 204")
	require.NoError(t, client.SendToUser(t.Context(), "ann", webpubsub.Text("Your order is on its way"), nil))
	p.waitForText("[data-kind=message].event .text", "SendToUser: 1 recipient")
	p.waitForText("#connection-count", "3")
	screenshot(t, p, "liveview")
}
