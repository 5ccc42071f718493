package indexserver

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// Fetch returns what Follower.Join fetches snapshots with: it asks servers at base URLs in turn, until one answers.
func Fetch(client *http.Client, urls ...string) func(context.Context) (io.ReadCloser, error) {
	return func(ctx context.Context) (io.ReadCloser, error) {
		var last error
		for _, url := range urls {
			body, err := fetch(ctx, client, strings.TrimSuffix(url, "/")+"/snapshot")
			if err == nil {
				return body, nil
			}
			last = err
		}
		return nil, last
	}
}

func fetch(ctx context.Context, client *http.Client, url string) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		resp.Body.Close()
		return nil, fmt.Errorf("%s: status %d", url, resp.StatusCode)
	}
	return resp.Body, nil
}
