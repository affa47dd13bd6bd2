// Package soak has the tests that need time. They run the service client, wsclient, the emulator and the event handler
// together, with hundreds of clients, network faults and a hundred thousand calls, and search all output for secrets. They
// are short by default. README.md describes how to run them at full length, and has the results of such a run.
package soak
