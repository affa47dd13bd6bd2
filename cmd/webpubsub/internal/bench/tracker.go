package bench

// tracker counts what one client received of one sender. The numbers that a sender sends to a target are 1, 2, 3, ...
type tracker struct {
	next       uint32 // the highest number received
	holes      []span // numbers below it that have not arrived
	received   uint32 // different numbers
	duplicated uint32
	reordered  uint32 // numbers that arrived after a higher one
}

// span is the numbers from first to last.
type span struct{ first, last uint32 }

// maxHoles bounds the memory of a tracker. Numbers of a hole that is forgotten count as lost, and as duplicated if they
// arrive after all.
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

// fill removes a number from its hole. It reports whether there was one.
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

// lost returns how many of the messages that the service accepted did not arrive: those up to last without the failed.
func (t *tracker) lost(last uint32, failed []uint32) int {
	arrived := int(t.received)
	for _, number := range failed {
		if t.has(number) { // not accepted, and delivered all the same: its answer was lost
			arrived--
		}
	}
	return max(0, int(last)-len(failed)-arrived)
}
