//go:build e2e

package s3_test

import (
	"net"
	"os/exec"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/stretchr/testify/require"

	"github.com/inferloom/inferloom/kvcache/store"
	"github.com/inferloom/inferloom/kvcache/store/s3"
	"github.com/inferloom/inferloom/kvcache/store/storetest"
)

// TestVersityGateway holds the level to the contract on a real S3 server: versitygw, over a folder.
func TestVersityGateway(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := l.Addr().String()
	require.NoError(t, l.Close())
	server := exec.Command("versitygw", "--port", address, "--access", "root", "--secret", "secret", "--quiet", "posix", t.TempDir())
	require.NoError(t, server.Start())
	t.Cleanup(func() { _ = server.Process.Kill(); _ = server.Wait() })
	client, err := minio.New(address, &minio.Options{Creds: credentials.NewStaticV4("root", "secret", ""), MaxRetries: 2})
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		return client.MakeBucket(t.Context(), "pages", minio.MakeBucketOptions{}) == nil
	}, 30*time.Second, 50*time.Millisecond)
	storetest.Run(t, storetest.Options{Operations: 400, New: func(t *testing.T) store.Store {
		for object := range client.ListObjects(t.Context(), "pages", minio.ListObjectsOptions{Recursive: true}) {
			require.NoError(t, client.RemoveObject(t.Context(), "pages", object.Key, minio.RemoveObjectOptions{}))
		}
		s, err := s3.New(s3.Options{Client: client, Bucket: "pages"})
		require.NoError(t, err)
		return s
	}})
}
