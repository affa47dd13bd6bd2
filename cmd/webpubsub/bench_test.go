package main

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/awps-go/webpubsub/cmd/internal/programtest"
	"github.com/awps-go/webpubsub/cmd/webpubsub/internal/bench"
	"github.com/awps-go/webpubsub/emulator"
)

// benchReport runs bench with --json and --quiet and returns its report. The run must succeed.
func benchReport(t *testing.T, server *emulator.Server, args ...string) (r bench.Report) {
	t.Helper()
	stdout := succeed(t, on(server), append([]string{"bench", "--json", "--quiet"}, args...)...)
	require.NoError(t, json.Unmarshal([]byte(stdout), &r))
	return r
}

func TestBenchOfManyClientsLosesNothing(t *testing.T) {
	clients, groupSize, messages := 2000, 100, 2000
	if testing.Short() || raceEnabled {
		clients, groupSize, messages = 200, 50, 200
	}
	server := emulator.StartT(t, &emulator.Options{})
	r := benchReport(t, server, "--clients", strconv.Itoa(clients), "--max-connections", strconv.Itoa(clients), "--connect-rate", "0",
		"--group-size", strconv.Itoa(groupSize), "--rate", "0", "--messages", strconv.Itoa(messages), "--duration", "100s")
	deliveries := int64(groupSize * messages)
	require.Equal(t, [2]int64{int64(clients), 0}, [2]int64{r.Clients.Connected, r.Clients.Failed}, r.Error)
	require.EqualValues(t, messages, r.Messages.Sent, r.Error)
	require.Equal(t, [5]int64{deliveries, deliveries, 0, 0, 0},
		[5]int64{r.Deliveries.Expected, r.Deliveries.Received, r.Deliveries.Lost, r.Deliveries.Duplicated, r.Deliveries.Reordered})
	require.Equal(t, messages, server.RequestCount("SendToGroup"))
	require.NoError(t, server.WaitForConnections(deadline(t), hub, 0), "each client must send a close frame")
}

func TestBenchOfEachTarget(t *testing.T) {
	server := emulator.StartT(t, nil)
	for _, test := range []struct {
		target     string
		protocol   string
		targets    int
		deliveries int64 // for 20 messages to 7 clients
	}{
		{"groups", "json-reliable", 3, 48}, // groups of 3, 3 and 1: 7, 7 and 6 messages
		{"users", "protobuf-reliable", 7, 20},
		{"all", "json", 1, 140},
		{"all", "protobuf", 1, 140},
	} {
		r := benchReport(t, server, "--target", test.target, "--clients", "7", "--group-size", "3", "--messages", "20",
			"--rate", "0", "--senders", "3", "--protocol", test.protocol, "--size", "1000")
		require.Equal(t, test.targets, r.Messages.Targets)
		require.Equal(t, [4]int64{20, test.deliveries, test.deliveries, 0},
			[4]int64{r.Messages.Sent, r.Deliveries.Expected, r.Deliveries.Received, r.Deliveries.Lost}, test.target)
		require.Positive(t, r.Deliveries.Latency.P50)
		require.LessOrEqual(t, r.Deliveries.Latency.P50, r.Deliveries.Latency.P95)
		require.LessOrEqual(t, r.Deliveries.Latency.P99, r.Deliveries.Latency.Max)
		require.False(t, r.Interrupted)
	}
	require.Equal(t, 20, server.RequestCount("SendToUser"))
	require.Equal(t, 40, server.RequestCount("SendToAll"))
}

// With one sender, each message is sent after the response to the previous one. The time between two responses of the emulator
// is therefore the latency of a message, and the percentiles must agree. The emulator delays some messages, so that the
// percentiles differ.
func TestThePercentilesOfBenchAgreeWithTheEmulator(t *testing.T) {
	t.Parallel() // mostly waits
	const messages, clients = 40, 5
	server := emulator.StartT(t, nil)
	for _, fault := range []emulator.Fault{{Times: 24, Delay: 100 * time.Millisecond}, {Times: 4, Delay: 300 * time.Millisecond}} {
		fault.Operation = emulator.OperationSendToAll
		require.NoError(t, server.InjectFault(fault))
	}
	r := benchReport(t, server, "--target", "all", "--clients", strconv.Itoa(clients), "--messages", strconv.Itoa(messages),
		"--rate", "0", "--senders", "1")
	require.Equal(t, [2]int64{messages * clients, 0}, [2]int64{r.Deliveries.Received, r.Deliveries.Lost})
	var seen []float64 // the milliseconds between two responses
	var before time.Time
	for _, request := range server.Requests() {
		if request.Operation != string(emulator.OperationSendToAll) {
			continue
		}
		if !before.IsZero() {
			seen = append(seen, float64(request.Time.Sub(before))/float64(time.Millisecond))
		}
		before = request.Time
	}
	require.Len(t, seen, messages-1)
	slices.Sort(seen)
	percentile := func(p float64) float64 { return seen[int(p*float64(len(seen)))] }
	latency := r.Deliveries.Latency
	require.InDelta(t, percentile(0.50), latency.P50, 50)
	require.InDelta(t, percentile(0.95), latency.P95, 100)
	require.Greater(t, percentile(0.95), percentile(0.50)+100, "the emulator delayed the messages")
}

func TestBenchPrintsProgressAndATable(t *testing.T) {
	t.Parallel() // mostly waits
	server := emulator.StartT(t, nil)
	p := programtest.Start(t, []string{"bench", "--clients", "4", "--group-size", "2", "--rate", "20", "--messages", "30"}, on(server)...)
	code, table := p.Result(t)
	require.Equal(t, exitOK, code, "%s", p.Stderr)
	require.Regexp(t, `(?m)^   1s  4 of 4 clients  sent [\d,]+ \(\d+/s\)  delivered [\d,]+ \(\d+/s\)  failed 0  reconnects 0$`, p.Stderr.String())
	require.Regexp(t, `(?m)^clients +4 connected, 0 failed, 0 ended `, table)
	require.Regexp(t, `(?m)^messages +30 sent to 2 groups, 0 failed `, table)
	require.Regexp(t, `(?m)^deliveries +60 of 60 `, table)
	require.Regexp(t, `(?m)^ +0 lost, 0 duplicated, 0 reordered$`, table)
	require.Regexp(t, `(?m)^latency +p50 \d+\.\d\d ms, p95 `, table)
}

func TestBenchCountsConnectionsThatRecoverAndLosesNothing(t *testing.T) {
	t.Parallel() // mostly waits
	server := emulator.StartT(t, nil)
	p := programtest.Start(t, []string{"bench", "--json", "--clients", "3", "--target", "all", "--messages", "200", "--rate", "100"}, on(server)...)
	require.NoError(t, server.WaitForRequests(deadline(t), "SendToAll", 20))
	require.True(t, server.DropConnection(hub, server.Connections(hub)[0].ID))
	code, stdout := p.Result(t)
	require.Equal(t, exitOK, code, "%s", p.Stderr)
	var r bench.Report
	require.NoError(t, json.Unmarshal([]byte(stdout), &r))
	require.EqualValues(t, 1, r.Clients.Recovered)
	require.Equal(t, [4]int64{600, 600, 0, 0}, [4]int64{r.Deliveries.Expected, r.Deliveries.Received, r.Deliveries.Lost, r.Deliveries.Duplicated})
}

func TestBenchCountsWhatIsLost(t *testing.T) {
	t.Parallel() // mostly waits
	server := emulator.StartT(t, nil)
	p := programtest.Start(t, []string{"bench", "--json", "--clients", "3", "--target", "all", "--messages", "300", "--rate", "100",
		"--protocol", "json", "--senders", "1", "--drain", "100ms"}, on(server)...)
	require.NoError(t, server.WaitForRequests(deadline(t), "SendToAll", 20))
	require.True(t, server.DropConnection(hub, server.Connections(hub)[0].ID))
	// Messages sent before the client reconnects are lost. The first attempt fails, so this takes a while.
	require.NoError(t, server.InjectFault(emulator.Fault{Operation: emulator.OperationConnect, Status: 503}))
	code, stdout := p.Result(t)
	require.Equal(t, exitOK, code, "%s", p.Stderr)
	var r bench.Report
	require.NoError(t, json.Unmarshal([]byte(stdout), &r))
	require.EqualValues(t, 1, r.Clients.Reconnected)
	require.Positive(t, r.Deliveries.Lost)
	require.EqualValues(t, 900, r.Deliveries.Received+r.Deliveries.Lost)
	require.Zero(t, r.Deliveries.Duplicated+r.Deliveries.Reordered)
}

func TestBenchReportsSendsThatFail(t *testing.T) {
	t.Parallel() // mostly waits
	server := emulator.StartT(t, nil)
	require.NoError(t, server.InjectFault(emulator.Fault{Operation: "SendToAll", Status: 429, Times: 3}))
	require.NoError(t, server.InjectFault(emulator.Fault{Operation: "SendToAll", Cut: emulator.CutAfterEffect, Times: 2}))
	r := benchReport(t, server, "--target", "all", "--clients", "3", "--messages", "20", "--rate", "0", "--retries", "0")
	require.Equal(t, [2]int64{15, 5}, [2]int64{r.Messages.Sent, r.Messages.Failed})
	require.Equal(t, [2]int64{45, 0}, [2]int64{r.Deliveries.Expected, r.Deliveries.Lost})
	require.NotEmpty(t, r.Error)

	require.NoError(t, server.InjectFault(emulator.Fault{Operation: "SendToAll", Status: 429, Times: 20}))
	p := programtest.Start(t, []string{"bench", "--quiet", "--target", "all", "--clients", "3", "--messages", "5", "--rate", "0", "--retries", "0"}, on(server)...)
	code, _ := p.Result(t)
	require.Equal(t, exitFailed, code)
	require.Regexp(t, `^webpubsub: bench: no message was sent: SendToAll: 429 Too Many Requests: `, p.Stderr.String())
}

func TestBenchFailsIfNoClientConnects(t *testing.T) {
	server := emulator.StartT(t, nil)
	require.NoError(t, server.InjectFault(emulator.Fault{Operation: emulator.OperationConnect, Status: 403, Times: 5}))
	line := fail(t, exitFailed, on(server), "bench", "--clients", "5", "--quiet")
	require.Regexp(t, `^webpubsub: bench: no client connected: .*403`, line)
}

func TestAnInterruptEndsBenchWithItsReport(t *testing.T) {
	server := emulator.StartT(t, nil)
	p := programtest.Start(t, []string{"bench", "--json", "--quiet", "--clients", "3", "--duration", "10m", "--rate", "1000"}, on(server)...)
	require.NoError(t, server.WaitForRequests(deadline(t), "SendToGroup", 5))
	p.Interrupt(t)
	code, stdout := p.Result(t)
	require.Equal(t, exitFailed, code)
	require.Equal(t, "webpubsub: bench: interrupted\n", p.Stderr.String())
	var r bench.Report
	require.NoError(t, json.Unmarshal([]byte(stdout), &r))
	require.True(t, r.Interrupted)
	require.GreaterOrEqual(t, r.Messages.Sent, int64(5))
	require.Zero(t, r.Deliveries.Lost, "messages in flight are not lost")
	require.NoError(t, server.WaitForConnections(deadline(t), hub, 0), "each client must send a close frame")
}

func TestAnInterruptEndsSendsThatTheServiceDoesNotAnswer(t *testing.T) {
	t.Parallel() // mostly waits
	server := emulator.StartT(t, nil)
	require.NoError(t, server.InjectFault(emulator.Fault{Operation: "SendToAll", Delay: time.Hour}))
	p := programtest.Start(t, []string{"bench", "--json", "--quiet", "--clients", "1", "--target", "all", "--senders", "2", "--messages", "2",
		"--rate", "0"}, on(server)...)
	require.NoError(t, server.WaitForRequests(deadline(t), "SendToAll", 1)) // the other send arrived before this one
	p.Interrupt(t)
	code, stdout := p.Result(t)
	require.Equal(t, exitFailed, code)
	require.Contains(t, stdout, "context canceled")
}

func TestAnInterruptWhileClientsConnect(t *testing.T) {
	server := emulator.StartT(t, nil)
	p := programtest.Start(t, []string{"bench", "--quiet", "--clients", "1000", "--connect-rate", "1"}, on(server)...)
	require.NoError(t, server.WaitForConnections(deadline(t), hub, 1))
	p.Interrupt(t)
	code, stdout := p.Result(t)
	require.Equal(t, exitFailed, code)
	require.Empty(t, stdout)
	require.Equal(t, "webpubsub: bench: interrupted before all clients were connected\n", p.Stderr.String())
	require.NoError(t, server.WaitForConnections(deadline(t), hub, 0))
}

func TestGrouped(t *testing.T) {
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567", -1000: "-1,000", -999: "-999"} {
		require.Equal(t, want, grouped(n))
	}
}

func TestPrintable(t *testing.T) {
	for text, want := range map[string]string{
		"plain ü 日本": "plain ü 日本", "a\x1b[2J": `a\u001b[2J`, "\u202eabc": `\u202eabc`, "\u009b1m": `\u009b1m`, "\xff": `\xff`, "a\nb\t": `a\u000ab\u0009`,
		"\U000e0001": `\U000e0001`,
	} {
		require.Equal(t, want, printable(text))
		require.Equal(t, strings.ReplaceAll(strings.ReplaceAll(want, `\u000a`, "\n"), `\u0009`, "\t"), printableText(text))
	}
}
