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
	duration = flag.Duration("soak.duration", 5*time.Second, "how long TestSoak, TestChaos and each part of TestFaults run")
	seedFlag = flag.Uint64("soak.seed", 0, "the seed for the tests' random choices; 0 chooses a seed and prints it")
	sends    = flag.Int("soak.sends", 5_000, "the number of sends in TestMemory, which also connects a tenth as many clients")
)

func TestMain(m *testing.M) {
	flag.Parse()
	if *seedFlag == 0 {
		*seedFlag = rand.Uint64()
	}
	goleak.VerifyTestMain(m)
}

// patience bounds every wait of these tests. It elapses only if a test fails.
const patience = time.Minute

// figures prints the measurements of a test, even without -v.
func figures(t *testing.T, format string, args ...any) {
	fmt.Fprintf(os.Stdout, t.Name()+": "+format+"\n", args...)
}

// random returns the source of random numbers for one goroutine of the test. Goroutine 0 also prints the seed.
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

// waitContext returns a context that ends after patience.
func waitContext() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), patience)
}
