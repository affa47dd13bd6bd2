// Command thirdparty writes THIRD_PARTY.md, the list of the modules that this repository depends on and their licences, and the
// licences of the npm packages that its tests and benchmarks install:
//
//	go run .          writes the file
//	go run . -check   fails if the file is out of date
//
// It fails if the licence of a module or npm package is not in the list of accepted licences. It is a separate module, so that its dependency
// is not a dependency of the client.
package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/google/licensecheck"
)

const ours = "github.com/awps-go/webpubsub"

// accepted are the licences that a dependency may have. All are permissive. The list is the same for the dependencies of
// applications and of our tests.
var accepted = []string{"0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "MIT"}

// chosen are the modules that offer a choice of licences, with the file of the licence that we use. The Eclipse modules offer
// the Eclipse Public License or the Eclipse Distribution License, which is BSD-3-Clause.
var chosen = map[string]string{
	"github.com/eclipse/paho.golang":      "edl-v10",
	"github.com/eclipse/paho.mqtt.golang": "edl-v10",
}

// platforms are the operating systems whose dependencies are listed. Some packages are imported on one system only.
var platforms = []string{"linux", "darwin", "windows"}

// part is a part of the repository with dependencies.
type part struct {
	name     string   // the name in THIRD_PARTY.md
	module   string   // the folder of its go.mod
	packages []string // package patterns in that module
	tests    bool     // whether to include the dependencies of the tests
}

var (
	// compiled are the parts that users compile: the packages that applications import, and the programs.
	compiled = []part{
		{name: "`webpubsub` (the root)", module: ".", packages: []string{"."}},
		{name: "`eventhandler`", module: ".", packages: []string{"./eventhandler"}},
		{name: "`wsclient`", module: ".", packages: []string{"./wsclient"}},
		{name: "`tunnel`", module: ".", packages: []string{"./tunnel"}},
		{name: "`emulator`", module: ".", packages: []string{"./emulator"}},
		{name: "`cmd/webpubsub`", module: ".", packages: []string{"./cmd/webpubsub"}},
		{name: "`cmd/webpubsub-emulator`", module: ".", packages: []string{"./cmd/webpubsub-emulator"}},
	}
	// others are the parts that only developers of this repository compile.
	others = []part{
		{name: "examples", module: ".", packages: []string{"./examples/..."}},
		{name: "tests", module: ".", packages: []string{"./..."}, tests: true},
		{name: "`bench`", module: "bench", packages: []string{"./..."}, tests: true},
		{name: "`internal/oteltest`", module: "internal/oteltest", packages: []string{"./..."}, tests: true},
		{name: "`internal/browsertest`", module: "internal/browsertest", packages: []string{"./..."}, tests: true},
		{name: "`internal/thirdparty`", module: "internal/thirdparty", packages: []string{"./..."}, tests: true},
	}
)

// npmFolders are the folders with a package-lock.json. Only tests and benchmarks install these packages.
var npmFolders = []string{"bench/js", "interop"}

func main() {
	check := flag.Bool("check", false, "fail if THIRD_PARTY.md is out of date, instead of writing it")
	root := flag.String("root", "../..", "the folder of the repository")
	flag.Parse()
	if err := run(*root, *check); err != nil {
		fmt.Fprintln(os.Stderr, "thirdparty:", err)
		os.Exit(1)
	}
}

func run(root string, check bool) error {
	text, err := describe(root)
	if err != nil {
		return err
	}
	file := filepath.Join(root, "THIRD_PARTY.md")
	if !check {
		return os.WriteFile(file, text, 0o644)
	}
	committed, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if !bytes.Equal(committed, text) {
		return errors.New("THIRD_PARTY.md is out of date: run \"go run .\" in internal/thirdparty and commit the file")
	}
	return nil
}

// module is a third-party module.
type module struct {
	path, dir string
	licence   string
	notice    bool     // whether it has a NOTICE file, which must be passed on with the module
	usedBy    []string // the names of the parts that use it
}

// describe returns the text of THIRD_PARTY.md.
func describe(root string) ([]byte, error) {
	first, err := modulesOf(root, compiled)
	if err != nil {
		return nil, err
	}
	second, err := modulesOf(root, others)
	if err != nil {
		return nil, err
	}
	for path := range first {
		delete(second, path)
	}
	var text bytes.Buffer
	text.WriteString("# Third-party modules\n\n" +
		"Written by `internal/thirdparty` from the import graphs for " + strings.Join(platforms, ", ") + "; do not edit. The versions are in\n" +
		"`go.mod`. A module that only another module's tests need is not listed, since Go does not compile it for us.\n\n" +
		"## Compiled into programs\n\n" +
		"An application compiles the modules of the packages that it imports, and no others.\n\n")
	table(&text, first)
	text.WriteString("\n## Examples, tests and benchmarks only\n\n" +
		"These modules are not part of a program that imports a package of ours.\n\n")
	table(&text, second)
	text.WriteString("\n## npm packages\n\n" +
		"Only our tests and benchmarks install these packages. The names, versions and licences are in each `package-lock.json`.\n\n" +
		"| folder | licences of all packages |\n| --- | --- |\n")
	for _, folder := range npmFolders {
		licences, err := npmLicences(filepath.Join(root, folder, "package-lock.json"))
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(&text, "| `%s` | %s |\n", folder, strings.Join(licences, ", "))
	}
	return text.Bytes(), nil
}

// npmLicences returns the licences of the packages in a package-lock.json, sorted.
func npmLicences(file string) (licences []string, err error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var lock struct {
		Packages map[string]struct{ License string } // by folder; "" is the project itself
	}
	if err := json.Unmarshal(text, &lock); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	for folder, p := range lock.Packages {
		switch {
		case folder == "":
		case !slices.Contains(accepted, p.License):
			return nil, fmt.Errorf("%s: %s: the licence %q is not accepted; accepted licences: %s", file, folder, p.License, strings.Join(accepted, ", "))
		case !slices.Contains(licences, p.License):
			licences = append(licences, p.License)
		}
	}
	slices.Sort(licences)
	return licences, nil
}

func table(w io.Writer, modules map[string]*module) {
	fmt.Fprint(w, "| module | licence | used by |\n| --- | --- | --- |\n")
	for _, m := range slices.SortedFunc(maps.Values(modules), func(a, b *module) int { return cmp.Compare(a.path, b.path) }) {
		licence := m.licence
		if m.notice {
			licence += ", with a NOTICE"
		}
		fmt.Fprintf(w, "| %s | %s | %s |\n", m.path, licence, strings.Join(m.usedBy, ", "))
	}
}

// modulesOf returns the modules that the parts compile, by path. It skips parts whose folder does not exist.
func modulesOf(root string, parts []part) (map[string]*module, error) {
	modules := map[string]*module{}
	for _, p := range parts {
		folder := filepath.Join(root, p.module)
		if _, err := os.Stat(filepath.Join(folder, strings.TrimSuffix(p.packages[0], "/..."))); errors.Is(err, os.ErrNotExist) {
			continue
		}
		for _, platform := range platforms {
			dirs, err := list(folder, platform, p)
			if err != nil {
				return nil, err
			}
			for path, dir := range dirs {
				m := modules[path]
				if m == nil {
					m = &module{path: path, dir: dir}
					if m.licence, m.notice, err = licenceIn(dir, chosen[path]); err != nil {
						return nil, fmt.Errorf("%s: %w", path, err)
					}
					modules[path] = m
				}
				if !slices.Contains(m.usedBy, p.name) {
					m.usedBy = append(m.usedBy, p.name)
				}
			}
		}
	}
	return modules, nil
}

// list returns the modules that a part compiles on a platform, as a map from the path to the folder.
func list(folder, platform string, p part) (map[string]string, error) {
	args := []string{"list", "-deps", "-f", "{{with .Module}}{{.Path}}\t{{.Dir}}{{end}}"}
	if p.tests {
		args = append(args, "-test")
	}
	command := exec.Command("go", append(args, p.packages...)...)
	command.Dir = folder
	command.Env = append(os.Environ(), "GOOS="+platform, "GOARCH=amd64", "CGO_ENABLED=0")
	command.Stderr = os.Stderr
	output, err := command.Output()
	if err != nil {
		return nil, fmt.Errorf("go list in %s: %w", folder, err)
	}
	dirs := map[string]string{}
	for line := range strings.Lines(string(output)) {
		path, dir, _ := strings.Cut(strings.TrimSpace(line), "\t")
		if path != "" && path != ours && !strings.HasPrefix(path, ours+"/") {
			dirs[path] = dir
		}
	}
	return dirs, nil
}

var (
	licenceFile = regexp.MustCompile(`(?i)^(licen[cs]e|copying)([.-].*)?$`)
	noticeFile  = regexp.MustCompile(`(?i)^notice(\..*)?$`)
)

// licenceIn returns the licences in a module's top folder, or in the file chosen if it is not empty. It joins several licences
// with "and".
func licenceIn(dir, chosen string) (licence string, notice bool, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", false, err
	}
	var found []string
	for _, entry := range entries {
		notice = notice || noticeFile.MatchString(entry.Name())
		if chosen == "" && !licenceFile.MatchString(entry.Name()) || chosen != "" && entry.Name() != chosen {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, entry.Name()))
		if err != nil {
			return "", false, err
		}
		coverage := licensecheck.Scan(text)
		for _, match := range coverage.Match {
			if !match.IsURL && !slices.Contains(found, match.ID) {
				found = append(found, match.ID)
			}
		}
	}
	if len(found) == 0 {
		return "", false, fmt.Errorf("no known licence in %s", dir)
	}
	slices.Sort(found)
	for _, id := range found {
		if !slices.Contains(accepted, id) {
			return "", false, fmt.Errorf("the licence %s is not accepted; accepted licences: %s", id, strings.Join(accepted, ", "))
		}
	}
	return strings.Join(found, " and "), notice, nil
}
