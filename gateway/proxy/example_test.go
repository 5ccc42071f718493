package proxy_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/inferloom/inferloom/gateway"
	"github.com/inferloom/inferloom/gateway/api"
	"github.com/inferloom/inferloom/gateway/proxy"
)

// unmetered is a Lease for routers that keep no account.
type unmetered struct{}

func (unmetered) Next(error) (gateway.Target, bool) { return gateway.Target{}, false }
func (unmetered) Status(int)                        {}
func (unmetered) FirstByte()                        {}
func (unmetered) Usage(api.Usage)                   {}
func (unmetered) End(error)                         {}

func Example() {
	engine := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		io.WriteString(w, "data: {\"choices\":[{\"delta\":{\"content\":\"Hello\"}}]}\n\ndata: [DONE]\n\n")
	}))
	defer engine.Close()

	router := gateway.RouterFunc(func(_ context.Context, r *api.Request) (*gateway.Route, error) {
		if r.Model != "llama" {
			return nil, &gateway.Rejection{Status: 404, Reason: gateway.ReasonModelNotFound, Param: "model",
				Message: fmt.Sprintf("no engine serves %q", r.Model)}
		}
		return gateway.NewRoute(gateway.Target{ID: "engine-0", Address: engine.Listener.Addr().String()}, unmetered{}), nil
	})
	p, err := proxy.New(router, proxy.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer p.Close()
	front := httptest.NewServer(p)
	defer front.Close()
	defer http.DefaultClient.CloseIdleConnections()

	for _, model := range []string{"llama", "gpt"} {
		resp, err := http.Post(front.URL+"/v1/chat/completions", "application/json",
			strings.NewReader(`{"model":"`+model+`","messages":[{"role":"user","content":"Hi"}],"stream":true}`))
		if err != nil {
			fmt.Println(err)
			return
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		fmt.Printf("%d %s\n", resp.StatusCode, strings.TrimSpace(string(body)))
	}
	// Output:
	// 200 data: {"choices":[{"delta":{"content":"Hello"}}]}
	//
	// data: [DONE]
	// 404 {"error":{"message":"no engine serves \"gpt\"","type":"invalid_request_error","param":"model","code":"model_not_found"}}
}
