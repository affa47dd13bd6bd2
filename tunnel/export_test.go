package tunnel

import "testing"

// SetMaxPendingBytes changes the bound of waiting events until the test ends.
func SetMaxPendingBytes(t *testing.T, n int64) {
	before := maxPendingBytes
	maxPendingBytes = n
	t.Cleanup(func() { maxPendingBytes = before })
}
