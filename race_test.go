//go:build race

package webpubsub

// raceEnabled says that the race detector is on, which allocates too.
const raceEnabled = true
