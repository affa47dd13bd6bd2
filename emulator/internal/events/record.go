package events

import (
	"slices"
	"strings"
	"sync"
	"time"

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
	Body              string
	Attempts          int
	Status            int
	AnswerContentType string
	AnswerBody        string
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
		ID: d.id, ContentType: d.contentType, Body: redact.Excerpt(d.body, maxRecordedBody, secrets...), Attempts: d.attempts}
	if a := d.answer; a != nil {
		r.Status, r.AnswerContentType = a.status, a.contentType()
		r.AnswerBody = redact.Excerpt(a.body, maxRecordedBody, secrets...)
	}
	if err != nil {
		r.Error = redact.Text(err.Error(), secrets...)
	}
	return r
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
