package tunnel

import "testing"

// SetMaxPendingBytes changes the memory limit of pending events until the test ends.
func SetMaxPendingBytes(t *testing.T, n int64) {
	before := maxPendingBytes
	maxPendingBytes = n
	t.Cleanup(func() { maxPendingBytes = before })
}
