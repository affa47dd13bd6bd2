package events

import (
	"strings"
	"time"
	"unicode/utf8"

	"github.com/awps-go/webpubsub/internal/redact"
)

// Record is an event sent to the application, and its outcome. The fields are documented at the emulator's type Event.
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

// maxRecordedBody bounds the part of a body that is recorded, in bytes.
const maxRecordedBody = 16 << 10

func (u *Sender) newRecord(d *delivery, err error) Record {
	secrets := u.secrets()
	c := d.connection
	r := Record{Time: d.time, Type: d.ceType, Hub: strings.ToLower(c.Hub.Name), ConnectionID: c.ID, UserID: c.UserID, Name: d.name,
		ID: d.id, ContentType: d.contentType, Body: Recorded(d.body, secrets), Attempts: d.attempts}
	if a := d.answer; a != nil {
		r.Status, r.AnswerContentType = a.status, a.contentType()
		r.AnswerBody = Recorded(a.body, secrets)
	}
	if err != nil {
		r.Error = redact.Text(err.Error(), secrets...)
	}
	return r
}

// Recorded returns the first 16 KiB of a body, without secrets.
func Recorded(body []byte, secrets []string) []byte {
	if utf8.Valid(body) {
		return []byte(redact.Excerpt(body, maxRecordedBody, secrets...))
	}
	const further = 16 << 10 // redact beyond the cut: redact.Text does not recognize half a secret
	shown := redact.Text(string(body[:min(len(body), maxRecordedBody+further)]), secrets...)
	return []byte(shown[:min(len(shown), maxRecordedBody)])
}

// recordKey is a hub and the name of an event, both in lower case.
type recordKey struct{ hub, name string }

// record adds a completed event to the log.
func (u *Sender) record(r Record) { u.records.Add(recordKey{r.Hub, strings.ToLower(r.Name)}, r) }

// Events returns the most recent events sent to the application, in the order in which they completed.
func (u *Sender) Events() []Record { return u.records.All() }

// Count returns the number of completed events with a hub and a name, including those that the log no longer holds.
func (u *Sender) Count(hub, name string) int {
	return u.records.Count(recordKey{strings.ToLower(hub), strings.ToLower(name)})
}
