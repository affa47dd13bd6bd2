package emulator

import "time"

// ShortenPatience sets how long a wait of the server takes whose context has no deadline, and returns how long it took.
func ShortenPatience(s *Server, patience time.Duration) (before time.Duration) {
	before, s.patience = s.patience, patience
	return before
}
