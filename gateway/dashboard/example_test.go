package dashboard_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/inferloom/inferloom/gateway"
	"github.com/inferloom/inferloom/gateway/dashboard"
	"github.com/inferloom/inferloom/scheduling"
)

func Example() {
	pool, _ := scheduling.NewPool(scheduling.PoolOptions{Endpoints: []scheduling.Endpoint{{ID: "a", Address: "10.0.0.1:8000"}}})
	live, err := dashboard.New(dashboard.Options{Pool: pool})
	if err != nil {
		fmt.Println(err)
		return
	}
	mux := http.NewServeMux()
	mux.Handle("/dashboard", live)
	mux.Handle("/dashboard/", live)

	// A brain does this: gateway.BrainOptions{Observer: live, ...}.
	live.Observe(gateway.Record{Model: "llama", Endpoint: "a", Attempts: 1, TTFT: 80 * time.Millisecond})

	answer := httptest.NewRecorder()
	mux.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/dashboard/data", nil))
	var data struct {
		Ended struct{ Requests int }
	}
	err = json.Unmarshal(answer.Body.Bytes(), &data)
	fmt.Println(answer.Code, data.Ended.Requests, err)
	// Output: 200 1 <nil>
}
