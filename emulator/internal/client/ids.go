package client

// idSet is a set of numbers that mostly come one after the other: it remembers those as one range.
type idSet struct {
	low, high uint64 // every number from low up to, not including, high
	others    map[uint64]struct{}
}

// add adds a number and reports whether it was new.
func (s *idSet) add(id uint64) bool {
	if s.low <= id && id < s.high {
		return false
	}
	if _, ok := s.others[id]; ok {
		return false
	}
	if s.low == s.high {
		s.low, s.high = id, id
	}
	if id != s.high || id+1 == 0 {
		if s.others == nil {
			s.others = make(map[uint64]struct{})
		}
		s.others[id] = struct{}{}
		return true
	}
	for ok := true; ok && s.high+1 != 0; _, ok = s.others[s.high] { // the largest number of all stays among the others
		delete(s.others, s.high)
		s.high++
	}
	return true
}
