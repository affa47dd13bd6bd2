//go:build race

package webpubsub

// raceEnabled reports whether the race detector is on. It allocates memory too.
const raceEnabled = true
