// Package soak holds the tests that take time: the service client, the emulator and the event handler together, with
// hundreds of clients, with everything that a network does wrong, over a hundred thousand calls, and with an eye on
// what they log. They are short by default; README.md says how to run them long, and what came of it.
package soak
