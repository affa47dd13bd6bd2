//go:build race

package main

// raceEnabled reports that the race detector is on, which makes a large bench slow.
const raceEnabled = true
