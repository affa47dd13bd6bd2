package soak

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/awps-go/webpubsub"
)

var (
	duration = flag.Duration("soak.duration", 5*time.Second, "how long TestSoak and TestFaults go on, each")
	seedFlag = flag.Uint64("soak.seed", 0, "of what the tests do at random; 0 takes a new one, which is printed")
	sends    = flag.Int("soak.sends", 5_000, "how many sends TestMemory makes; it connects a tenth as many clients")
)

func TestMain(m *testing.M) {
	flag.Parse()
	if *seedFlag == 0 {
		*seedFlag = rand.Uint64()
	}
	goleak.VerifyTestMain(m)
}

// patience bounds every wait of these tests: it only passes when something that should happen does not.
const patience = time.Minute

// figures prints what a test has measured, also without -v.
func figures(t *testing.T, format string, args ...any) {
	fmt.Fprintf(os.Stdout, t.Name()+": "+format+"\n", args...)
}

// random returns the test's source of randomness for one of its goroutines, and says with what seed to get it again.
func random(t *testing.T, goroutine int) *rand.Rand {
	if goroutine == 0 {
		figures(t, "-soak.seed=%d", *seedFlag)
	}
	return rand.New(rand.NewPCG(*seedFlag, uint64(goroutine)))
}

// newClient returns a service client.
func newClient(t testing.TB, connectionString, hub string, options *webpubsub.ClientOptions) *webpubsub.ServiceClient {
	t.Helper()
	client, err := webpubsub.NewClientFromConnectionString(connectionString, hub, options)
	require.NoError(t, err)
	return client
}

func patient() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), patience)
}
