package bench

// tracker counts the messages that one client received from one sender. A sender numbers its messages to a target 1, 2,
// 3, ...
type tracker struct {
	next       uint32 // the highest number received
	holes      []span // numbers below next that have not arrived
	received   uint32 // different numbers
	duplicated uint32
	reordered  uint32 // numbers that arrived after a higher one
}

// span is a range of numbers, inclusive.
type span struct{ first, last uint32 }

// maxHoles limits the memory of a tracker. If there are more holes, the oldest is dropped: its numbers count as lost,
// or as duplicated if they arrive later.
const maxHoles = 1024

// record counts a number, and reports whether it is new.
func (t *tracker) record(number uint32) bool {
	switch {
	case number > t.next:
		if number > t.next+1 {
			t.holes = append(t.holes, span{t.next + 1, number - 1})
			if len(t.holes) > maxHoles {
				t.holes = t.holes[1:]
			}
		}
		t.next = number
	case t.fill(number):
		t.reordered++
	default:
		t.duplicated++
		return false
	}
	t.received++
	return true
}

// fill removes a number from its hole, and reports whether there was such a hole.
func (t *tracker) fill(number uint32) bool {
	for i, hole := range t.holes {
		if number < hole.first || number > hole.last {
			continue
		}
		var rest []span
		if number > hole.first {
			rest = append(rest, span{hole.first, number - 1})
		}
		if number < hole.last {
			rest = append(rest, span{number + 1, hole.last})
		}
		t.holes = append(t.holes[:i:i], append(rest, t.holes[i+1:]...)...)
		return true
	}
	return false
}

// has reports whether a number was received.
func (t *tracker) has(number uint32) bool {
	if number > t.next {
		return false
	}
	for _, hole := range t.holes {
		if number >= hole.first && number <= hole.last {
			return false
		}
	}
	return true
}

// lost returns the number of accepted messages that did not arrive. Accepted are the numbers up to last, except failed.
func (t *tracker) lost(last uint32, failed []uint32) int {
	arrived := int(t.received)
	for _, number := range failed {
		if t.has(number) { // delivered although the send failed: only the response was lost
			arrived--
		}
	}
	return max(0, int(last)-len(failed)-arrived)
}
