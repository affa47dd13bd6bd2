package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const affero = `This program is free software: you can redistribute it and/or modify it under the terms of the GNU Affero General
Public License as published by the Free Software Foundation, either version 3 of the License, or (at your option) any later
version. This program is distributed in the hope that it will be useful, but WITHOUT ANY WARRANTY; without even the implied
warranty of MERCHANTABILITY or FITNESS FOR A PARTICULAR PURPOSE. See the GNU Affero General Public License for more details.`

func TestLicenceIn(t *testing.T) {
	mit, err := os.ReadFile("../../LICENSE")
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name, chosen string
		files        map[string]string
		licence      string
		notice       bool
		err          string
	}{
		{name: "an accepted licence", files: map[string]string{"LICENSE.txt": string(mit)}, licence: "MIT"},
		{name: "a notice", files: map[string]string{"COPYING": string(mit), "NOTICE.md": "made by us"}, licence: "MIT", notice: true},
		{name: "a licence that is not accepted", files: map[string]string{"LICENSE": affero}, err: "is not accepted"},
		{name: "two licences, one of them not accepted", files: map[string]string{"LICENSE": string(mit), "LICENSE.other": affero}, err: "is not accepted"},
		{name: "a choice", chosen: "mit", files: map[string]string{"LICENSE": affero, "mit": string(mit)}, licence: "MIT"},
		{name: "a chosen file that is missing", chosen: "mit", files: map[string]string{"LICENSE": string(mit)}, err: "no known licence"},
		{name: "no licence", files: map[string]string{"README.md": "hello"}, err: "no known licence"},
		{name: "unknown text", files: map[string]string{"LICENSE": "do as you like"}, err: "no known licence"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			for name, text := range tc.files {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			licence, notice, err := licenceIn(dir, tc.chosen)
			if tc.err == "" && err != nil || tc.err != "" && (err == nil || !strings.Contains(err.Error(), tc.err)) {
				t.Fatalf("error %v, want %q", err, tc.err)
			}
			if licence != tc.licence || notice != tc.notice {
				t.Fatalf("licence %q, notice %t", licence, notice)
			}
		})
	}
}

func TestNPMLicences(t *testing.T) {
	for _, tc := range []struct {
		name, packages string
		licences       []string
		err            string
	}{
		{name: "accepted licences", packages: `"": {"license": "none"}, "node_modules/b": {"license": "MIT"}, "node_modules/a": {"license": "ISC"}, "node_modules/c": {"license": "MIT"}`,
			licences: []string{"ISC", "MIT"}},
		{name: "a licence that is not accepted", packages: `"node_modules/a": {"license": "AGPL-3.0"}`, err: `node_modules/a: the licence "AGPL-3.0" is not accepted`},
		{name: "no licence", packages: `"node_modules/a": {}`, err: `the licence "" is not accepted`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "package-lock.json")
			if err := os.WriteFile(file, []byte(`{"packages": {`+tc.packages+`}}`), 0o600); err != nil {
				t.Fatal(err)
			}
			licences, err := npmLicences(file)
			if tc.err == "" && err != nil || tc.err != "" && (err == nil || !strings.Contains(err.Error(), tc.err)) {
				t.Fatalf("error %v, want %q", err, tc.err)
			}
			if !slices.Equal(licences, tc.licences) {
				t.Fatalf("licences %q", licences)
			}
		})
	}
}
