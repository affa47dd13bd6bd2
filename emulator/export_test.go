package emulator

import "time"

// SetWaitTimeout sets the timeout of the WaitFor methods for contexts without a deadline. It returns the old timeout.
func SetWaitTimeout(s *Server, timeout time.Duration) (before time.Duration) {
	before, s.waitTimeout = s.waitTimeout, timeout
	return before
}
