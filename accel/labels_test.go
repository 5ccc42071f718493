package accel_test

import (
	"testing"

	"github.com/inferloom/inferloom/accel"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestFromLabels(t *testing.T) {
	c := accel.Builtin()
	for _, row := range []struct {
		name          string
		labels        map[string]string
		system        string
		count, domain int
		id            string
	}{
		{"GPU feature discovery", map[string]string{
			"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3", "nvidia.com/gpu.count": "8", "nvidia.com/gpu.memory": "81559",
			"nvidia.com/gpu.replicas": "1", "nvidia.com/gpu.sharing-strategy": "none",
		}, "h100-sxm", 8, 8, ""},
		{"half a node", map[string]string{"nvidia.com/gpu.product": "NVIDIA-H200", "nvidia.com/gpu.count": "4"}, "h200-sxm", 4, 4, ""},
		{"no count", map[string]string{"nvidia.com/gpu.product": "NVIDIA-B200"}, "b200-sxm", 0, 8, ""},
		{"NVLink clique", map[string]string{
			"nvidia.com/gpu.product": "NVIDIA-GB200", "nvidia.com/gpu.count": "4", "nvidia.com/gpu.clique": "5c2f.32766",
		}, "gb200-nvl72", 4, 72, "5c2f.32766"},
		{"a tray without its clique", map[string]string{"nvidia.com/gpu.product": "NVIDIA-GB200", "nvidia.com/gpu.count": "4"}, "gb200-nvl72", 4, 4, ""},
		{"CoreWeave", map[string]string{"gpu.nvidia.com/model": "H100_NVLINK_80GB", "gpu.nvidia.com/count": "8"}, "h100-sxm", 8, 8, ""},
		{"Karpenter", map[string]string{"karpenter.k8s.aws/instance-gpu-name": "h200", "karpenter.k8s.aws/instance-gpu-count": "8"}, "h200-sxm", 8, 8, ""},
		{"GKE", map[string]string{"cloud.google.com/gke-accelerator": "nvidia-h100-mega-80gb"}, "h100-sxm", 0, 8, ""},
		{"AMD", map[string]string{
			"amd.com/gpu.product-name": "AMD_Instinct_MI300X_OAM", "amd.com/gpu.vram": "192G", "amd.com/gpu.family": "AI",
		}, "mi300x", 0, 8, ""},
		{"Intel", map[string]string{"gpu.intel.com/product": "Arc_Pro_B60"}, "arc-pro-b60", 0, 8, ""},
		{"Gaudi", map[string]string{"habana.ai/product.name": "Intel-Gaudi-2-96GB", "habana.ai/device.memory": "98304"}, "gaudi2", 0, 8, ""},
		{"TPU slice of many hosts", map[string]string{
			"cloud.google.com/gke-tpu-accelerator": "tpu7x", "cloud.google.com/gke-tpu-topology": "2x2x4", "cloud.google.com/gke-nodepool": "pool-1",
		}, "tpu7x", 4, 16, "pool-1"},
		{"TPU of one host", map[string]string{
			"cloud.google.com/gke-tpu-accelerator": "tpu-v6e-slice", "cloud.google.com/gke-tpu-topology": "2x4", "cloud.google.com/gke-nodepool": "pool-1",
		}, "tpu-v6e", 8, 8, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			n, err := c.FromLabels(row.labels)
			require.NoError(t, err)
			assert.Equal(t, row.system, n.System.Name)
			assert.Equal(t, row.count, n.Accelerators)
			assert.Equal(t, row.domain, n.System.ScaleUp.Domain)
			assert.Equal(t, row.id, n.Domain)
		})
	}
}

func TestFromLabelsRefuses(t *testing.T) {
	c := accel.Builtin()
	for _, row := range []struct {
		name   string
		labels map[string]string
		is     error
		want   string
	}{
		{"nothing", map[string]string{"kubernetes.io/hostname": "a"}, accel.ErrNoAccelerator, "no label"},
		{"unknown product", map[string]string{"nvidia.com/gpu.product": "NVIDIA-H900"}, accel.ErrUnknown, "label nvidia.com/gpu.product=NVIDIA-H900"},
		{"another variant", map[string]string{"nvidia.com/gpu.product": "NVIDIA-H20", "nvidia.com/gpu.memory": "143771"}, accel.ErrUnknown, "another variant"},
		{"40 GB", map[string]string{"karpenter.k8s.aws/instance-gpu-name": "a100", "karpenter.k8s.aws/instance-gpu-memory": "40960"}, accel.ErrUnknown, "instance-gpu-memory=40960"},
		{"MIG, single", map[string]string{"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3-MIG-1g.10gb"}, accel.ErrPartitioned, "MIG"},
		{"MIG, mixed", map[string]string{"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3", "nvidia.com/mig-1g.10gb.count": "7"}, accel.ErrPartitioned, "nvidia.com/mig-1g.10gb.count=7"},
		{"time slices", map[string]string{"nvidia.com/gpu.product": "NVIDIA-L4", "nvidia.com/gpu.replicas": "4"}, accel.ErrShared, "gpu.replicas=4"},
		{"shared", map[string]string{"nvidia.com/gpu.product": "NVIDIA-L4-SHARED"}, accel.ErrShared, "NVIDIA-L4-SHARED"},
		{"MPS", map[string]string{"nvidia.com/gpu.product": "NVIDIA-L4", "nvidia.com/gpu.sharing-strategy": "mps"}, accel.ErrShared, "mps"},
		{"partition", map[string]string{"amd.com/gpu.product-name": "AMD_Instinct_MI300X_OAM", "amd.com/compute-memory-partition": "CPX_NPS4"}, accel.ErrPartitioned, "CPX_NPS4"},
		{"count", map[string]string{"nvidia.com/gpu.product": "NVIDIA-L4", "nvidia.com/gpu.count": "many"}, nil, "nvidia.com/gpu.count=many"},
		{"negative count", map[string]string{"nvidia.com/gpu.product": "NVIDIA-L4", "nvidia.com/gpu.count": "-1"}, nil, "nvidia.com/gpu.count=-1"},
		{"memory", map[string]string{"nvidia.com/gpu.product": "NVIDIA-L4", "nvidia.com/gpu.memory": "NaN"}, nil, "nvidia.com/gpu.memory=NaN"},
		{"TPU without topology", map[string]string{"cloud.google.com/gke-tpu-accelerator": "tpu7x"}, nil, "gke-tpu-topology"},
		{"TPU with another's topology", map[string]string{
			"cloud.google.com/gke-tpu-accelerator": "tpu-v6e-slice", "cloud.google.com/gke-tpu-topology": "4x4x4",
		}, accel.ErrUnknown, "gke-tpu-topology=4x4x4"},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, err := c.FromLabels(row.labels)
			require.Error(t, err)
			assert.ErrorContains(t, err, row.want)
			if row.is != nil {
				assert.ErrorIs(t, err, row.is)
			}
			if row.is != accel.ErrNoAccelerator {
				var label *accel.LabelError
				assert.ErrorAs(t, err, &label)
			}
		})
	}
}

func FuzzFromLabels(f *testing.F) {
	c := accel.Builtin()
	f.Add("nvidia.com/gpu.product", "NVIDIA-H100-80GB-HBM3", "nvidia.com/gpu.count", "8")
	f.Add("cloud.google.com/gke-tpu-accelerator", "tpu7x", "cloud.google.com/gke-tpu-topology", "4x4x8")
	f.Add("amd.com/gpu.product-name", "AMD_Instinct_MI300X", "amd.com/gpu.vram", "192G")
	f.Fuzz(func(t *testing.T, key1, value1, key2, value2 string) {
		n, err := c.FromLabels(map[string]string{key1: value1, key2: value2})
		if err == nil && (n.System.PerNode < 1 || n.System.ScaleUp.Domain < 1) {
			t.Fatalf("%+v", n)
		}
	})
}
