//go:build unix

package main

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/awps-go/webpubsub/cmd/internal/programtest"
	"github.com/awps-go/webpubsub/emulator"
)

// variable matches the texts that differ from run to run: times, request ids and connection ids.
var variable = regexp.MustCompile(`\d\d:\d\d:\d\d\.\d{3}|[0-9a-f]{8}-[0-9a-f-]{27}|[\w-]{31}`)

// command is a command in the README, with the lines that it prints.
type command struct {
	line   string
	output []string
}

// terminalBlocks returns the commands of each code block in the README that begins with a prompt.
func terminalBlocks(t *testing.T) (blocks [][]command) {
	t.Helper()
	readme, err := os.ReadFile("README.md")
	require.NoError(t, err)
	for i, block := range strings.Split(string(readme), "```") {
		if i%2 == 0 || !strings.HasPrefix(block, "\n$ ") {
			continue
		}
		var commands []command
		for _, line := range outputLines(block[1:]) {
			if text, ok := strings.CutPrefix(line, "$ "); ok {
				commands = append(commands, command{line: text})
			} else {
				last := &commands[len(commands)-1]
				last.output = append(last.output, line)
			}
		}
		blocks = append(blocks, commands)
	}
	return blocks
}

// outputLines returns the lines of a text.
func outputLines(text string) (lines []string) {
	for line := range strings.Lines(text) {
		lines = append(lines, strings.TrimSuffix(line, "\n"))
	}
	return lines
}

// masked returns the lines without the texts that differ from run to run.
func masked(lines []string) []string {
	result := []string{}
	for _, line := range lines {
		result = append(result, variable.ReplaceAllString(line, "*"))
	}
	return result
}

// TestTheReadmesSession runs alice's client and the commands of the README that send to it.
func TestTheReadmesSession(t *testing.T) {
	blocks := terminalBlocks(t)
	alice, commands := blocks[2][0], blocks[3]
	const typed = "hello from alice"
	last := len(commands) - 1
	closed, ok := strings.CutPrefix(commands[last].line, "webpubsub connection close ")
	require.True(t, ok, commands[last].line)
	readmesID, _, _ := strings.Cut(closed, " ")

	server := emulator.StartT(t, nil)
	client := connect(t, server, strings.Fields(strings.TrimPrefix(alice.line, "webpubsub connect "))...)
	id := server.Connections(hub)[0].ID
	run := programtest.Shell(t, "webpubsub", on(server)...)
	var printed []string
	for i, c := range commands {
		if i == last { // before it, alice types
			_, err := client.Stdin.Write([]byte(typed + "\n"))
			require.NoError(t, err)
			for !strings.HasSuffix(strings.Join(printed, ""), typed) {
				printed = append(printed, client.Line(t))
			}
		}
		require.Equal(t, masked(c.output), masked(outputLines(run(strings.ReplaceAll(c.line, readmesID, id)))), c.line)
	}
	client.Stderr.WaitFor(t, " reconnected, ")
	printed = append(printed, outputLines(end(t, server, client))...)
	printed = append(printed, outputLines(client.Stderr.String())...)
	expected := slices.DeleteFunc(alice.output, func(line string) bool { return line == typed })
	require.ElementsMatch(t, masked(expected), masked(printed)) // the terminal shows two streams
}
