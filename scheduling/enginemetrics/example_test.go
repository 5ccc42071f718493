package enginemetrics_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/inferloom/inferloom/scheduling"
	"github.com/inferloom/inferloom/scheduling/enginemetrics"
)

func Example() {
	engine := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, `vllm:num_requests_waiting{engine="0",model_name="llama"} 3`)
	}))
	defer engine.Close()
	pool, err := scheduling.NewPool(scheduling.PoolOptions{
		Endpoints: []scheduling.Endpoint{{ID: "a", Address: engine.Listener.Addr().String()}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}

	scraper, err := enginemetrics.New(pool, enginemetrics.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second/2)
	defer cancel()
	_ = scraper.Run(ctx) // a gateway runs it in a goroutine

	waiting, _, known := pool.Snapshot().Observed(0, scheduling.Waiting)
	fmt.Println(waiting, known)
	// Output: 3 true
}
