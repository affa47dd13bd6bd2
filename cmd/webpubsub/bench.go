package main

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/awps-go/webpubsub/cmd/webpubsub/internal/bench"
)

// benchFlags are the flags of bench.
type benchFlags struct {
	config         bench.Config
	target         string
	protocol       string
	maxConnections int
	quiet          bool
	asJSON         bool
}

func newBench(p *program) *cobra.Command {
	var f benchFlags
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Generate load: open clients, send them messages, and measure the deliveries",
		Long: `Open clients, send messages to groups, to users or to all clients over REST, and report the deliveries: how many a second,
with which latency, and how many were lost, duplicated or reordered.

The run ends after --duration or --messages, whichever comes first. Latency is the time from sending a message to its
receipt by a client, by the clock of this machine. Each of the --senders sends its messages in sequence, and order is
checked for each sender separately. Progress goes to standard error, one line a second.

With --target groups or users, only the clients of the run receive the messages. With --target all, all clients of the
hub receive them. The service bills connections and messages, and counts a message once for each client that receives
it: one message a second to 1,000 clients is 1,000 messages a second.`,
		Example: `  webpubsub bench --clients 500 --group-size 50 --rate 200 --duration 30s
  webpubsub bench --clients 100 --target all --messages 1000 --json | jq .deliveries`,
		Args: argumentsOf("bench"),
		RunE: action(func(cmd *cobra.Command, args []string) error { return f.run(p, cmd) }),
	}
	f.addFlags(cmd)
	return cmd
}

func (f *benchFlags) addFlags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.IntVar(&f.config.Clients, "clients", 100, "open `N` clients")
	flags.IntVar(&f.config.ConnectRate, "connect-rate", 200, "open `N` clients a second; 0 means no limit")
	flags.IntVar(&f.maxConnections, "max-connections", 1000, "reject --clients above `N`, in case of a typing error")
	flags.StringVar(&f.target, "target", "groups", "the `TARGET` of each message: groups (one group), users (one user) or all")
	flags.IntVar(&f.config.GroupSize, "group-size", 10, "with --target groups, put `N` clients into each group")
	flags.IntVar(&f.config.Rate, "rate", 100, "send `N` messages a second, all senders together; 0 means no limit")
	flags.IntVar(&f.config.Senders, "senders", 16, "send `N` messages concurrently")
	flags.IntVar(&f.config.Messages, "messages", 0, "end after `N` messages; 0 means no limit")
	flags.DurationVar(&f.config.Duration, "duration", 10*time.Second, "end after this time")
	flags.DurationVar(&f.config.Drain, "drain", 5*time.Second, "stop waiting for missing messages if none arrives for this time")
	flags.IntVar(&f.config.Size, "size", 128, "send messages of `N` bytes, at least 64")
	addProtocolFlag(cmd, &f.protocol)
	flags.BoolVar(&f.quiet, "quiet", false, "do not print progress")
	addJSONFlag(cmd, &f.asJSON)
	completeFlag(cmd, "target", "groups", "users", "all")
}

func (f *benchFlags) run(p *program, cmd *cobra.Command) error {
	if err := f.check(); err != nil {
		return err
	}
	var err error
	if f.config.Protocol, err = parseProtocol(f.protocol); err != nil {
		return err
	}
	if f.config.Service, err = p.client(cmd.ErrOrStderr()); err != nil {
		return err
	}
	f.config.Target = bench.Target(f.target)
	if !f.quiet {
		f.config.Progress = progressPrinter(cmd.ErrOrStderr())
	}
	report, err := bench.Run(cmd.Context(), f.config)
	switch {
	case err != nil && cmd.Context().Err() != nil:
		return errors.New("bench: interrupted before all clients were connected")
	case err != nil:
		return fmt.Errorf("bench: %w", err)
	}
	if err := f.print(cmd.OutOrStdout(), report); err != nil {
		return err
	}
	switch {
	case report.Interrupted:
		return errors.New("bench: interrupted")
	case report.Messages.Sent == 0:
		return noMessageSent(report)
	}
	return nil
}

func noMessageSent(r *bench.Report) error {
	if r.Messages.Failed == 0 {
		return errors.New("bench: no message was sent: the time was over before the first")
	}
	return fmt.Errorf("bench: no message was sent: %s", r.Error)
}

// Upper limits, so that a typo gives a clear error.
const (
	maxSenders = 10_000
	maxSize    = 1 << 20
	maxRate    = 1_000_000
)

func (f *benchFlags) check() error {
	c := &f.config
	for _, number := range []struct {
		flag               string
		value, least, most int
	}{
		{"clients", c.Clients, 1, 1 << 20},
		{"max-connections", f.maxConnections, 1, 1 << 20},
		{"connect-rate", c.ConnectRate, 0, maxRate},
		{"group-size", c.GroupSize, 1, 1 << 20},
		{"rate", c.Rate, 0, maxRate},
		{"senders", c.Senders, 1, maxSenders},
		{"messages", c.Messages, 0, 1<<31 - 1},
		{"size", c.Size, bench.MinSize, maxSize},
	} {
		if number.value < number.least || number.value > number.most {
			return usageErrorf("--%s must be from %d to %d, not %d", number.flag, number.least, number.most, number.value)
		}
	}
	switch {
	case c.Clients > f.maxConnections:
		return usageErrorf("--clients %d is more than --max-connections %d: use --max-connections %[1]d to allow it",
			c.Clients, f.maxConnections)
	case c.Duration <= 0:
		return usageErrorf("--duration must be positive")
	case c.Drain <= 0:
		return usageErrorf("--drain must be positive")
	case f.target != "groups" && f.target != "users" && f.target != "all":
		return usageErrorf("--target must be groups, users or all, not %q", f.target)
	}
	return nil
}

// progressPrinter returns a function that prints a line of progress, with the rates since the previous line.
func progressPrinter(w io.Writer) func(bench.Progress) {
	var last bench.Progress
	return func(now bench.Progress) {
		seconds := (now.Elapsed - last.Elapsed).Seconds()
		fmt.Fprintf(w, "%4.0fs  %s of %s clients  sent %s (%.0f/s)  delivered %s (%.0f/s)  failed %s  reconnects %s\n",
			now.Elapsed.Seconds(), grouped(now.Connected), grouped(now.Clients),
			grouped(now.Sent), float64(now.Sent-last.Sent)/seconds,
			grouped(now.Delivered), float64(now.Delivered-last.Delivered)/seconds,
			grouped(now.Failed), grouped(now.Recovered+now.Reconnected))
		last = now
	}
}

func (f *benchFlags) print(w io.Writer, r *bench.Report) error {
	if f.asJSON {
		return printJSON(w, r)
	}
	target := string(r.Messages.Target)
	if r.Messages.Target != bench.All {
		target = grouped(int64(r.Messages.Targets)) + " " + target
	}
	err := printTable(w, [][]string{
		{"clients", fmt.Sprintf("%s connected, %s failed, %s ended", grouped(r.Clients.Connected), grouped(r.Clients.Failed), grouped(r.Clients.Ended)),
			fmt.Sprintf("%.2f s", r.Clients.Seconds)},
		{"", "time to connect", percentiles(r.Clients.Connect)},
		{"reconnects", fmt.Sprintf("%s recovered, %s reconnected", grouped(r.Clients.Recovered), grouped(r.Clients.Reconnected))},
		{"messages", fmt.Sprintf("%s sent to %s, %s failed", grouped(r.Messages.Sent), target, grouped(r.Messages.Failed)),
			fmt.Sprintf("%s a second, %.2f s", grouped(int64(r.Messages.PerSecond)), r.Messages.Seconds)},
		{"deliveries", fmt.Sprintf("%s of %s", grouped(r.Deliveries.Received), grouped(r.Deliveries.Expected)),
			fmt.Sprintf("%s a second", grouped(int64(r.Deliveries.PerSecond)))},
		{"", fmt.Sprintf("%s lost, %s duplicated, %s reordered", grouped(r.Deliveries.Lost), grouped(r.Deliveries.Duplicated), grouped(r.Deliveries.Reordered))},
		{"latency", "", percentiles(r.Deliveries.Latency)},
	})
	if err == nil && r.Error != "" {
		_, err = fmt.Fprintf(w, "first error: %s\n", errorLine(errors.New(r.Error)))
	}
	return err
}

func percentiles(p bench.Percentiles) string {
	return fmt.Sprintf("p50 %.2f ms, p95 %.2f ms, p99 %.2f ms, max %.2f ms", p.P50, p.P95, p.P99, p.Max)
}

// grouped returns a number with commas between groups of three digits.
func grouped(n int64) string {
	digits := strconv.FormatInt(n, 10)
	for i := len(digits) - 3; i > 0 && digits[i-1] != '-'; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}
