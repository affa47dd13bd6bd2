//go:build !race

package webpubsub

const raceEnabled = false
