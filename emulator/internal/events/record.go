package events

import (
	"strings"
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

// maxRecordedBody is how much of a body is remembered, in bytes.
const maxRecordedBody = 16 << 10

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

// recordKey is a hub and the name of an event, in lower case.
type recordKey struct{ hub, name string }

// remember remembers an event that has ended.
func (u *Sender) remember(r Record) { u.told.Add(recordKey{r.Hub, strings.ToLower(r.Name)}, r) }

// Events returns the events that the application was told last, in the order in which they ended.
func (u *Sender) Events() []Record { return u.told.All() }

// Count returns how many events of a hub and a name have ended.
func (u *Sender) Count(hub, name string) int {
	return u.told.Count(recordKey{strings.ToLower(hub), strings.ToLower(name)})
}
