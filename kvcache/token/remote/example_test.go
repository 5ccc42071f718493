package remote_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/inferloom/inferloom/kvcache/token/remote"
)

func Example() {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"count": 4, "max_model_len": 4096, "tokens": [1, 15043, 29991, 2]}`) // as SGLang or vLLM would
	}))
	defer server.Close()

	client, err := remote.New(remote.Options{URLs: []string{server.URL}, API: remote.Tokenize})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Close()
	ids, err := client.AppendChat(context.Background(), nil, []byte(`{"messages": [{"role": "user", "content": "Hello!"}]}`))
	fmt.Println(ids, err)
	// Output: [1 15043 29991 2] <nil>
}
