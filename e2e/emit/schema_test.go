package emit_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ai-dynamo/grove/operator/api/core/v1alpha1/crds"
	"github.com/stretchr/testify/require"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/listtype"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	_ "sigs.k8s.io/kueue/apis/kueue/v1beta2" // keeps the module, whose CRDs are read
	_ "sigs.k8s.io/lws/api/leaderworkerset/v1"
	"sigs.k8s.io/yaml"
)

// schemas are what an API server holds of custom resources: it validates by kind and version.
type schemas map[string]schema

type schema struct {
	structural *structuralschema.Structural
	props      *apiextensions.JSONSchemaProps
}

func (s schemas) add(t *testing.T, crd []byte) {
	t.Helper()
	var v1 apiextensionsv1.CustomResourceDefinition
	require.NoError(t, yaml.Unmarshal(crd, &v1))
	var internal apiextensions.CustomResourceDefinition
	require.NoError(t, apiextensionsv1.Convert_v1_CustomResourceDefinition_To_apiextensions_CustomResourceDefinition(&v1, &internal, nil))
	for _, version := range internal.Spec.Versions {
		props := version.Schema
		if props == nil {
			props = internal.Spec.Validation
		}
		structural, err := structuralschema.NewStructural(props.OpenAPIV3Schema)
		require.NoError(t, err)
		s[internal.Spec.Group+"/"+version.Name+" "+internal.Spec.Names.Kind] = schema{structural, props.OpenAPIV3Schema}
	}
}

func (s schemas) addFolder(t *testing.T, folder string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(folder, "*.yaml"))
	require.NoError(t, err)
	require.NotEmpty(t, files, folder)
	for _, f := range files {
		crd, err := os.ReadFile(f)
		require.NoError(t, err)
		if strings.Contains(string(crd), "kind: CustomResourceDefinition") {
			s.add(t, crd)
		}
	}
}

// published are the schemas that the modules ship, and those in the folders of EMIT_CRDS, a list like PATH.
func published(t *testing.T) schemas {
	t.Helper()
	s := schemas{}
	s.add(t, []byte(crds.PodCliqueSetCRD()))
	for module, folder := range map[string]string{"sigs.k8s.io/lws": "config/crd/bases", "sigs.k8s.io/kueue": "config/components/crd/bases"} {
		dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", module).Output()
		require.NoError(t, err)
		s.addFolder(t, filepath.Join(strings.TrimSpace(string(dir)), folder))
	}
	for _, folder := range filepath.SplitList(os.Getenv("EMIT_CRDS")) {
		s.addFolder(t, folder)
	}
	return s
}

// problems is what an API server would say of an object: unknown fields, breaches of the schema, broken CEL rules.
func (s schemas) problems(t *testing.T, object map[string]any) []string {
	t.Helper()
	kind := object["apiVersion"].(string) + " " + object["kind"].(string)
	schema, ok := s[kind]
	require.True(t, ok, "no schema of %s", kind)
	var out []string
	for _, path := range pruning.PruneWithOptions(object, schema.structural, true, structuralschema.UnknownFieldPathOptions{TrackUnknownFieldPaths: true}) {
		out = append(out, "unknown field "+path)
	}
	defaulting.Default(object, schema.structural)
	validator, _, err := validation.NewSchemaValidator(schema.props)
	require.NoError(t, err)
	for _, e := range validation.ValidateCustomResource(nil, object, validator) {
		out = append(out, e.Error())
	}
	for _, e := range listtype.ValidateListSetsAndMaps(nil, schema.structural, object) {
		out = append(out, e.Error())
	}
	rules := cel.NewValidator(schema.structural, true, celconfig.PerCallLimit)
	errs, _ := rules.Validate(context.Background(), nil, schema.structural, object, nil, celconfig.RuntimeCELCostBudget)
	for _, e := range errs {
		out = append(out, e.Error())
	}
	return out
}
