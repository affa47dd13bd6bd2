package events

import (
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/awps-go/webpubsub/internal/redact"
)

// Record is an event that the application was told, and what came of it. The emulator's own type Event has the meaning of
// the fields.
type Record struct {
	Time              time.Time
	Type              string
	Hub               string
	ConnectionID      string
	UserID            string
	Name              string
	ID                string
	ContentType       string
	Body              []byte
	Attempts          int
	Status            int
	AnswerContentType string
	AnswerBody        []byte
	Error             string
}

const (
	// maxRecords is how many events are remembered.
	maxRecords = 1000
	// maxRecordedBody is how much of a body is remembered, in bytes.
	maxRecordedBody = 16 << 10
)

func (u *Sender) newRecord(d *delivery, err error) Record {
	secrets := u.secrets()
	c := d.connection
	r := Record{Time: d.time, Type: d.ceType, Hub: strings.ToLower(c.Hub.Name), ConnectionID: c.ID, UserID: c.UserID, Name: d.name,
		ID: d.id, ContentType: d.contentType, Body: recorded(d.body, secrets), Attempts: d.attempts}
	if a := d.answer; a != nil {
		r.Status, r.AnswerContentType = a.status, a.contentType()
		r.AnswerBody = recorded(a.body, secrets)
	}
	if err != nil {
		r.Error = redact.Text(err.Error(), secrets...)
	}
	return r
}

// recorded returns what is remembered of a body: its beginning, without secrets.
func recorded(body []byte, secrets []string) []byte {
	if utf8.Valid(body) {
		return []byte(redact.Excerpt(body, maxRecordedBody, secrets...))
	}
	const further = 16 << 10 // half a secret at the end does not look like one
	shown := redact.Text(string(body[:min(len(body), maxRecordedBody+further)]), secrets...)
	return []byte(shown[:min(len(shown), maxRecordedBody)])
}

// recordLog is the events that the application was told last.
type recordLog struct {
	mu     sync.Mutex // guards everything below
	all    []Record   // a ring once it is full
	next   int        // where the next goes then
	counts map[recordKey]int
}

// recordKey is a hub and the name of an event, in lower case.
type recordKey struct{ hub, name string }

func (l *recordLog) add(r Record) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.counts == nil {
		l.counts = make(map[recordKey]int)
	}
	l.counts[recordKey{r.Hub, strings.ToLower(r.Name)}]++
	if len(l.all) < maxRecords {
		l.all = append(l.all, r)
		return
	}
	l.all[l.next] = r
	l.next = (l.next + 1) % maxRecords
}

// Events returns the events that the application was told last, in the order in which they ended.
func (u *Sender) Events() []Record {
	u.told.mu.Lock()
	defer u.told.mu.Unlock()
	return slices.Concat(u.told.all[u.told.next:], u.told.all[:u.told.next])
}

// Count returns how many events of a hub and a name have ended.
func (u *Sender) Count(hub, name string) int {
	u.told.mu.Lock()
	defer u.told.mu.Unlock()
	return u.told.counts[recordKey{strings.ToLower(hub), strings.ToLower(name)}]
}
