module stele/interop/sortcheck

go 1.26
