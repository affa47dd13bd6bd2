package protocol

import "testing"

func BenchmarkJSONDecode(b *testing.B) {
	frame := []byte(`{"type":"sendToGroup","group":"room","ackId":17,"noEcho":true,"dataType":"json","data":{"a":[1,2,3],"text":"hello there"}}`)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := (JSON{}).Decode(true, frame); err != nil {
			b.Fatal(err)
		}
	}
}
