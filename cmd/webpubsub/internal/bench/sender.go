package bench

import (
	"bytes"
	"context"
	"strconv"
	"sync"
	"time"

	"github.com/awps-go/webpubsub"
)

// MinSize is the minimum size of a message, in bytes. A message contains the run's id, the sender, a number and a time.
const MinSize = 64

// sender sends its messages in sequence. The service keeps the order of two messages only if the second is sent after
// the first was accepted, so order is checked for each sender separately.
type sender struct {
	index  int
	last   []uint32         // the number of the last message to each target
	failed map[int][]uint32 // the numbers of the messages that were not accepted, by target
}

// accepted returns the number of messages to a target that the service accepted.
func (s *sender) accepted(target int) int { return int(s.last[target]) - len(s.failed[target]) }

// send sends messages until there are enough, the time is over, or parent ends.
func (r *run) send(parent context.Context) {
	ctx, cancel := context.WithTimeout(parent, r.Duration)
	defer cancel()
	sending, stop := graceful(parent)
	defer stop()
	start := time.Now()
	var wg sync.WaitGroup
	for i := range r.Senders {
		s := &sender{index: i, last: make([]uint32, r.targets), failed: make(map[int][]uint32)}
		r.senders = append(r.senders, s)
		wg.Go(func() {
			for n := i; r.Messages == 0 || n < r.Messages; n += r.Senders {
				if !waitUntil(ctx, start, n, r.Rate) {
					return
				}
				r.sendOne(sending, s, n%r.targets)
			}
		})
	}
	wg.Wait()
}

// sendTimeout limits one send, including its retries.
const sendTimeout = time.Minute

// sendOne sends the next message to a target. It is not canceled when the time is over, because it would then be
// unknown whether the service accepted the message.
func (r *run) sendOne(ctx context.Context, s *sender, target int) {
	ctx, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	s.last[target]++
	message := webpubsub.Text(r.format(s.index, s.last[target]))
	var err error
	switch r.Target {
	case Groups:
		err = r.Service.SendToGroup(ctx, r.targetName(target), message, nil)
	case Users:
		err = r.Service.SendToUser(ctx, r.targetName(target), message, nil)
	default:
		err = r.Service.SendToAll(ctx, message, nil)
	}
	if err != nil {
		s.failed[target] = append(s.failed[target], s.last[target])
		r.sendFailed.Add(1)
		r.firstError.set(err)
		return
	}
	r.sent.Add(1)
}

// format returns a message: run, sender, number, time, and dots up to the size.
func (r *run) format(sender int, number uint32) string {
	b := make([]byte, 0, r.Size)
	b = append(b, r.id...)
	for _, n := range []uint64{uint64(sender), uint64(number), uint64(r.since())} {
		b = strconv.AppendUint(append(b, ' '), n, 10)
	}
	b = append(b, ' ')
	for len(b) < r.Size {
		b = append(b, '.')
	}
	return string(b)
}

// parse parses a message. ok is false if the message is not from this run.
func (r *run) parse(data []byte) (sender int, number uint32, sent time.Duration, ok bool) {
	rest, ours := bytes.CutPrefix(data, []byte(r.id+" "))
	if !ours {
		return 0, 0, 0, false
	}
	var values [3]uint64
	for i := range values {
		field, after, found := bytes.Cut(rest, []byte(" "))
		n, err := strconv.ParseUint(string(field), 10, 63)
		if !found || err != nil {
			return 0, 0, 0, false
		}
		values[i], rest = n, after
	}
	if values[0] >= uint64(r.Senders) || values[1] == 0 || values[1] > 1<<32-1 {
		return 0, 0, 0, false
	}
	return int(values[0]), uint32(values[1]), time.Duration(values[2]), true
}
